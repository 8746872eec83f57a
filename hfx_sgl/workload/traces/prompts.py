"""Makes prompts out of the rows of a trace: shared segments, own text, what sessions repeat."""

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.segment_ids import SegmentIds
from hfx_sgl.workload.traces.formats import TraceRow


class PromptMaker:
    """Turns rows, one after the other, into prompts. Remembers the sessions that grow.

    Args:
        name: distinguishes the segments of this trace and run from all others.
    """

    def __init__(self, name: str) -> None:
        self._shared_ids = SegmentIds(f"{name}/shared")
        self._own_ids = SegmentIds(f"{name}/own")
        self._num_own = 0
        self._said: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def make(self, row: TraceRow) -> Prompt:
        """Return the prompt of the next row."""
        ids = tuple(self._shared_ids.of(number) for number, _ in row.segments)
        tokens = tuple(num_tokens for _, num_tokens in row.segments)
        if row.own_tokens:
            ids, tokens = (*ids, self._next_own_id()), (*tokens, row.own_tokens)
        if row.grows and row.session is not None:
            said_ids, said_tokens = self._said.get(row.session, ((), ()))
            ids, tokens = said_ids + ids, said_tokens + tokens
            self._said[row.session] = (
                (*ids, self._next_own_id()),
                (*tokens, row.num_output_tokens),
            )
        return Prompt(ids, tokens)

    def _next_own_id(self) -> int:
        self._num_own += 1
        return self._own_ids.of(self._num_own)


def cut(prompt: Prompt, max_tokens: int) -> Prompt:
    """Return the first `max_tokens` of a prompt."""
    if prompt.num_tokens <= max_tokens:
        return prompt
    ids, tokens, left = [], [], max_tokens
    for segment_id, num_tokens in zip(prompt.segment_ids, prompt.segment_tokens, strict=True):
        if not left:
            break
        ids.append(segment_id)
        tokens.append(min(num_tokens, left))
        left -= tokens[-1]
    return Prompt(tuple(ids), tuple(tokens))
