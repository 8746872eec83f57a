"""power_of_two: the less loaded of two candidates drawn at random."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfx_sgl.policy.view import RequestView, WorkerT

if TYPE_CHECKING:
    from random import Random


class PowerOfTwo:
    """Looks at two loads only, and so does not send everybody to the same idle worker."""

    __slots__ = ("_draw",)

    def __init__(self, rng: "Random") -> None:
        self._draw = rng.random

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the less loaded of two distinct candidates; the first drawn when equal."""
        num_candidates = len(candidates)
        if num_candidates == 1:
            return candidates[0]
        first = int(self._draw() * num_candidates)
        second = int(self._draw() * (num_candidates - 1))
        if second >= first:
            second += 1
        one, other = candidates[first], candidates[second]
        return other if other.num_inflight < one.num_inflight else one

    def forget(self, worker_id: str) -> None:
        """Do nothing: no worker is remembered."""
