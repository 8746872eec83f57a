"""What measured mixed steps take beyond the estimate from prefill and decode steps."""

from bisect import bisect_right
from collections.abc import Mapping


class Correction:
    """Seconds over (new tokens, running requests): bilinear, constant beyond its cells.

    Without cells it is 0.
    """

    __slots__ = ("_cells", "_chunks", "_runnings")

    def __init__(self, cells: Mapping[tuple[int, int], float]) -> None:
        """Take a full grid of cells or none."""
        self._chunks = sorted({chunk for chunk, _ in cells})
        self._runnings = sorted({running for _, running in cells})
        self._cells = [[cells[chunk, at] for at in self._runnings] for chunk in self._chunks]

    def at(self, num_new: int, num_running: int) -> float:
        """Return the seconds to add for a step with these numbers."""
        if not self._cells:
            return 0.0
        i, i_next, i_weight = _locate(self._chunks, num_new)
        j, j_next, j_weight = _locate(self._runnings, num_running)
        low, high = self._cells[i], self._cells[i_next]
        at_low = low[j] + (low[j_next] - low[j]) * j_weight
        at_high = high[j] + (high[j_next] - high[j]) * j_weight
        return at_low + (at_high - at_low) * i_weight

    def is_outside(self, num_new: int, num_running: int) -> bool:
        """Whether the step lies beyond the largest cell; always, without cells."""
        if not self._cells:
            return True
        return num_new > self._chunks[-1] or num_running > self._runnings[-1]


def _locate(knots: list[int], value: int) -> tuple[int, int, float]:
    """Return the knots around a value and how far it is from the first towards the second."""
    i = bisect_right(knots, value) - 1
    if i < 0:
        return 0, 0, 0.0
    if i + 1 == len(knots):
        return i, i, 0.0
    return i, i + 1, (value - knots[i]) / (knots[i + 1] - knots[i])
