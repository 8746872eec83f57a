"""random: any candidate, each as likely."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfx_sgl.policy.view import RequestView, WorkerT

if TYPE_CHECKING:
    from random import Random


class RandomChoice:
    """Keeps no memory; spreads evenly in the long run only."""

    __slots__ = ("_draw",)

    def __init__(self, rng: "Random") -> None:
        # int(random() * n) is a third of the cost of randrange(n) and as even as needed here.
        self._draw = rng.random

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return a candidate drawn at random."""
        return candidates[int(self._draw() * len(candidates))]

    def forget(self, worker_id: str) -> None:
        """Do nothing: no worker is remembered."""
