"""Whether a completed request kept its promise, by what the router can see of its answer."""

from dataclasses import dataclass

from hfx_sgl.slo import Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """A streamed answer, seen token by token."""

    ttft_s: float
    tpot_s: float
    """0 with a single token."""
    e2e_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeTiming:
    """An answer that came in one piece."""

    e2e_s: float
    num_output_tokens: int | None
    """None where the answer does not say."""


def is_kept(slo: Slo, timing: StreamTiming | WholeTiming) -> bool:
    """Return whether every bound was kept.

    Nobody sees the tokens of an answer that is not streamed. It is held to the moment at which
    the last of them would have been due, ttft + (n-1) * tpot, and to the bound on the whole. An
    answer that states no number of tokens counts as a single one.
    """
    if isinstance(timing, StreamTiming):
        return slo.is_attained(ttft_s=timing.ttft_s, tpot_s=timing.tpot_s, e2e_s=timing.e2e_s)
    num_more = max(1, timing.num_output_tokens or 1) - 1
    due_s = slo.ttft_s + num_more * slo.tpot_s if num_more else slo.ttft_s
    return timing.e2e_s <= min(due_s, slo.e2e_s)
