"""Time of decode steps from measured rows."""

from bisect import bisect_left
from collections.abc import Sequence

from hfx_sgl.engine.step_times.curve import Curve
from hfx_sgl.engine.step_times.rows import Row

_Points = list[tuple[float, float]]


class DecodeTable:
    """Interpolates rows of (num_running, context_tokens), context per request.

    For each number of running requests that is asked for it keeps a curve over the mean context.
    Between two measured numbers the curve runs through the contexts measured for both; above the
    largest it goes on from the last two, and never falls.
    """

    __slots__ = ("_curves", "_numbers", "_rows", "max_running")

    def __init__(self, rows: Sequence[Row]) -> None:
        """Take rows that `check_decode` has no complaint about, times in milliseconds."""
        self._rows: dict[int, _Points] = {}
        for row in sorted(rows, key=lambda row: row.key):
            points = self._rows.setdefault(row.key[0], [])
            points.append((row.key[1], row.latency_ms / 1e3))
        self._numbers = sorted(self._rows)
        self._curves: dict[int, Curve] = {}
        self.max_running = self._numbers[-1]

    def curve(self, num_running: int) -> Curve:
        """Return seconds of a step over the mean context, for `num_running` of at least 1."""
        curve = self._curves.get(num_running)
        if curve is None:
            curve = self._curves[num_running] = Curve(self._points(num_running))
        return curve

    def _points(self, num_running: int) -> _Points:
        numbers = self._numbers
        i = bisect_left(numbers, num_running)
        if i < len(numbers) and numbers[i] == num_running:
            return self._rows[num_running]
        if i == 0 or len(numbers) == 1:
            return self._rows[numbers[min(i, len(numbers) - 1)]]
        is_above = i == len(numbers)
        low, high = (numbers[-2], numbers[-1]) if is_above else (numbers[i - 1], numbers[i])
        weight = (num_running - low) / (high - low)
        # A larger batch is measured up to a shorter context, so zip ends with the common ones.
        points: _Points = []
        for (context, low_s), (_, high_s) in zip(self._rows[low], self._rows[high], strict=False):
            rise = high_s - low_s
            if is_above:
                points.append((context, high_s + max(0.0, rise) * (weight - 1.0)))
            else:
                points.append((context, low_s + rise * weight))
        return points
