"""What the two OpenAI endpoints have in common."""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.meta import usage
from hfx_sgl.emulator.failures import BodyError, Json
from hfx_sgl.emulator.sequence import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiHead:
    """What every answer to one request begins with."""

    model: str
    """As the client calls it."""
    created: int
    """Seconds since 1970."""
    reports_cache: bool

    def chunk_prefix(self, rid: str, kind: str, index: int) -> bytes:
        """Return the beginning of each event of a choice, up to its index."""
        head = {"id": rid, "object": kind, "created": self.created, "model": self.model}
        return b'%b,"choices":[{"index":%d' % (orjson.dumps(head)[:-1], index)

    def usage_chunk(self, first: Sequence, kind: str, total: Json) -> Json:
        """Return the event that says what everything has cost."""
        return {
            "id": first.ask.rid,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [],
            "usage": total,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """`stream_options` of a body."""

    has_usage: bool = False
    has_continuous_usage: bool = False

    @classmethod
    def read(cls, body: Json) -> "StreamOptions":
        """Read them from a body.

        Raises:
            BodyError: they have a wrong type.
        """
        value = body.get("stream_options")
        if value is None:
            return cls()
        if not isinstance(value, dict):
            raise BodyError("body.stream_options: must be an object")
        return cls(
            has_usage=fields.flag(value, "include_usage"),
            has_continuous_usage=fields.flag(value, "continuous_usage_stats"),
        )


def total_usage(sequences: list[Sequence], num_samples: int, *, reports_cache: bool) -> Json:
    """Return what all sequences have cost; each prompt counts once for its samples."""
    prompts = sequences[::num_samples]
    return usage(
        sum(sequence.ask.num_prompt_tokens for sequence in prompts),
        sum(sequence.num_tokens for sequence in sequences),
        num_cached(prompts) if reports_cache else None,
    )


def num_cached(sequences: Iterable[Sequence]) -> int:
    """Return how many prompt tokens came from the prefix cache, as far as is known."""
    return sum(sequence.num_cached_tokens for sequence in sequences)
