"""A piecewise-linear function through measured points, and sums of it over consecutive steps."""

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil, sqrt


class Curve:
    """Linear between its points, constant before the first, and never falling after the last.

    After the last point it goes on with the slope of the last two, or flat where that falls.
    Arguments are not negative.
    """

    __slots__ = ("_last", "_slopes", "_xs", "_ys", "first_y", "last_x")

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        """Take at least two points (x, y) in ascending order of x."""
        xs = [float(x) for x, _ in points]
        ys = [y for _, y in points]
        if xs[0] > 0.0:  # a flat piece, so that every argument falls into some piece
            xs.insert(0, 0.0)
            ys.insert(0, ys[0])
        slopes = [(ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]) for i in range(len(xs) - 1)]
        slopes.append(max(0.0, slopes[-1]))
        self._xs = xs
        self._ys = ys
        self._slopes = slopes
        self._last = len(xs) - 1
        self.first_y = ys[0]
        self.last_x = xs[-1]

    def at(self, x: float) -> float:
        """Return the value at `x`; exactly the given one at a given point."""
        i = bisect_right(self._xs, x) - 1
        return self._ys[i] + self._slopes[i] * (x - self._xs[i])

    def sum_steps(self, x: float, num_steps: int) -> float:
        """Return the sum of the values at x, x + 1, ..., of `num_steps` terms.

        Each linear piece is an arithmetic series, so the cost depends on the number of pieces.
        """
        xs = self._xs
        i = bisect_right(xs, x) - 1
        total = 0.0
        while i < self._last and x + (num_steps - 1) >= xs[i + 1]:
            slope = self._slopes[i]
            num_here = ceil(xs[i + 1] - x)
            first = self._ys[i] + slope * (x - xs[i])
            total += num_here * (first + slope * 0.5 * (num_here - 1))
            num_steps -= num_here
            x += num_here
            i += 1
        slope = self._slopes[i]
        first = self._ys[i] + slope * (x - xs[i])
        return total + num_steps * (first + slope * 0.5 * (num_steps - 1))

    def steps_within(self, x: float, extra: float, limit: float) -> int:
        """Return the largest n with `sum_steps(x, n) + n * extra <= limit`.

        For positive values, `extra` of at least 0 and a finite limit.
        """
        if limit <= 0.0:
            return 0
        guess = self._guess_steps_within(x, extra, limit)
        # The guess rounds differently from the sum, so it may be off by one.
        while guess > 0 and self.sum_steps(x, guess) + guess * extra > limit:
            guess -= 1
        while self.sum_steps(x, guess + 1) + (guess + 1) * extra <= limit:
            guess += 1
        return guess

    def _guess_steps_within(self, x: float, extra: float, limit: float) -> int:
        xs = self._xs
        i = bisect_right(xs, x) - 1
        num_before = 0
        while True:
            slope = self._slopes[i]
            first = self._ys[i] + slope * (x - xs[i]) + extra
            if i == self._last:
                break
            num_here = ceil(xs[i + 1] - x)
            piece = num_here * (first + slope * 0.5 * (num_here - 1))
            if piece > limit:
                break
            limit -= piece
            num_before += num_here
            x += num_here
            i += 1
        if limit < first:
            return num_before
        # The sum of n terms is slope/2 n^2 + linear n; this form of the root is stable.
        linear = first - 0.5 * slope
        root = sqrt(max(0.0, linear * linear + 2.0 * slope * limit))
        return num_before + int(2.0 * limit / (linear + root))
