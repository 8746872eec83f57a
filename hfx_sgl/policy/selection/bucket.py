"""bucket: prompts of similar length to the same worker, the same share of bytes to each."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from hfx_sgl.policy.selection.balance import is_imbalanced
from hfx_sgl.policy.selection.config import SelectionConfig
from hfx_sgl.policy.selection.least_load import LeastLoad
from hfx_sgl.policy.view import RequestView, WorkerT

if TYPE_CHECKING:
    from random import Random

WINDOW_PROMPTS = 2048
"""Recent prompts the boundaries are computed from: enough for stable quantiles, and sorted in
well under a millisecond."""


class Bucket:
    """Ranges of prompt length, one per candidate in the order given, short prompts first.

    A boundary is a share of the bytes seen lately, so it need not be computed anew when the
    number of candidates changes. Prompts of one length that straddle a boundary are split at
    random, in the proportion in which the boundary splits their bytes.
    """

    __slots__ = (
        "_adjusts_at_s", "_bytes_up_to", "_config", "_draw", "_least_load", "_lengths", "_window",
    )  # fmt: skip

    def __init__(self, config: SelectionConfig, rng: "Random") -> None:
        self._config = config
        self._draw = rng.random
        self._least_load = LeastLoad()
        self._window: deque[int] = deque(maxlen=WINDOW_PROMPTS)
        self._lengths: list[int] = []
        self._bytes_up_to: list[int] = [0]
        self._adjusts_at_s: float | None = None

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the candidate of the prompt's range; the least loaded when loads are lopsided.

        The least loaded as well until the first boundaries are known.
        """
        length_bytes = len(request.prompt)
        self._window.append(length_bytes)
        if self._adjusts_at_s is None:
            self._adjusts_at_s = now_s + self._config.bucket_adjust_interval_s
        elif now_s >= self._adjusts_at_s:
            self._adjust(now_s)
        if not self._bytes_up_to[-1] or is_imbalanced(self._config, candidates):
            return self._least_load.select(request, candidates, now_s)
        index = int(self._rank(length_bytes) * len(candidates))
        return candidates[min(index, len(candidates) - 1)]

    def forget(self, worker_id: str) -> None:
        """Drop the turns of the worker; lengths are remembered for nobody in particular."""
        self._least_load.forget(worker_id)

    def _adjust(self, now_s: float) -> None:
        self._adjusts_at_s = now_s + self._config.bucket_adjust_interval_s
        self._lengths = sorted(self._window)
        self._bytes_up_to = list(accumulate(self._lengths, initial=0))

    def _rank(self, length_bytes: int) -> float:
        """Return the share (0..1) of the bytes seen lately that came in shorter prompts.

        Among those of the same length, the place is drawn.
        """
        below = self._bytes_up_to[bisect_left(self._lengths, length_bytes)]
        up_to = self._bytes_up_to[bisect_right(self._lengths, length_bytes)]
        return (below + self._draw() * (up_to - below)) / self._bytes_up_to[-1]
