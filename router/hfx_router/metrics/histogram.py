"""A histogram that is cheap to bump."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts per bucket, not cumulative; the last bucket is everything above the last bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(map(float, bounds))  # comparing with integers takes longer
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; a value equal to a bound falls into that bound's bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def num_observed(self) -> int:
        """How many values were counted."""
        return sum(self.counts)
