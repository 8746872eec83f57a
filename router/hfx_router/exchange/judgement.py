"""Whether a promise was kept, judged when the exchange has ended for the client."""

from typing import Protocol

from hfx_router.metrics.labels import Outcome
from hfx_sgl.policy.slo.verdict import StreamTiming, WholeTiming, is_kept
from hfx_sgl.slo import Slo

_UNJUDGED = frozenset((Outcome.CANCELLED, Outcome.CLIENT_ERROR))
"""Ends that say nothing about promises: the client left, or asked for what nobody can serve."""


class Answer(Protocol):
    """What the payload of an answer says of it."""

    @property
    def has_failed(self) -> bool:
        """Whether it ends with an error or an abort, whatever its status said."""
        ...

    @property
    def num_stated_tokens(self) -> int | None:
        """The last count of output tokens that it states; None when it states none."""
        ...


def judge(
    slo: Slo,
    outcome: Outcome,
    *,
    e2e_s: float,
    stream: tuple[float, float | None] | None,
    answer: Answer | None,
) -> bool | None:
    """Return whether every bound was kept; None where the end says nothing about that.

    Args:
        slo: what was promised.
        outcome: how the request ended.
        e2e_s: from its arrival to its end.
        stream: time to first token and per output token of a stream, the latter None with fewer
            than two tokens; None for other answers.
        answer: what followed the payload; None where nothing did.
    """
    if outcome in _UNJUDGED:
        return None
    if outcome is not Outcome.COMPLETED or (answer is not None and answer.has_failed):
        return False
    if stream is not None:
        ttft_s, tpot_s = stream
        return is_kept(slo, StreamTiming(ttft_s=ttft_s, tpot_s=tpot_s or 0.0, e2e_s=e2e_s))
    if e2e_s <= min(slo.ttft_s, slo.e2e_s):
        return True  # in time even for a single token: no need to look for their number
    num_tokens = None if answer is None else answer.num_stated_tokens
    return is_kept(slo, WholeTiming(e2e_s=e2e_s, num_output_tokens=num_tokens))
