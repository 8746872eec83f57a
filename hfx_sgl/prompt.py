"""A prompt as emulation sees it: which pieces of text it is made of, and how long they are."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sequence of segments. Two prompts share a prefix as far as their segments are equal.

    Args:
        segment_ids: what each segment says: equal ids, equal tokens.
        segment_tokens: the length of each segment in tokens, all at least 1.
    """

    segment_ids: tuple[int, ...]
    segment_tokens: tuple[int, ...]
    num_tokens: int = field(init=False)
    """Length of the whole prompt."""

    def __post_init__(self) -> None:
        if len(self.segment_ids) != len(self.segment_tokens):
            raise ValueError(
                f"{len(self.segment_ids)} segment ids, {len(self.segment_tokens)} lengths"
            )
        if not self.segment_tokens or min(self.segment_tokens) < 1:
            raise ValueError("a prompt needs segments, each of at least one token")
        object.__setattr__(self, "num_tokens", sum(self.segment_tokens))
