"""Turns the sums that a server keeps over its decode steps into steps to learn from."""

from collections.abc import Sequence
from math import isfinite, sqrt

_NUM_SUMS = 6
_LEAST_SPREAD_RATIO = 0.05
"""Batches that differ by less say nothing of how the time grows with them."""


def typical_steps(
    previous: Sequence[float], current: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Return pairs of running requests and seconds that stand for the steps between two reports.

    A report holds sums since the server started, over its decode steps of b running requests and t
    microseconds: steps, b, t, b^2, b*t, and generated tokens, which are not used. Two steps at the
    mean of b plus and minus its standard deviation, on the line of least squares through the
    steps, have the same means, variance and covariance as all of them, so that nothing that a
    linear fit could use is lost. Where the batches hardly differ there is one step, at the
    means; where nothing was decoded or the sums contradict each other there is none. Sums
    that fell mean that the server started anew: then `current` stands alone.
    """
    sums = _between(previous, current)
    if sums is None:
        return ()
    count, sum_b, sum_t_us, sum_bb, sum_bt = sums
    mean_b = sum_b / count
    mean_t_s = sum_t_us / count / 1e6
    if mean_b <= 0.0 or mean_t_s <= 0.0:
        return ()
    variance = sum_bb / count - mean_b * mean_b
    spread = sqrt(max(variance, 0.0))
    if spread <= _LEAST_SPREAD_RATIO * mean_b or spread >= mean_b:
        return ((mean_b, mean_t_s),)
    rise_s = (sum_bt / count / 1e6 - mean_b * mean_t_s) / spread
    if abs(rise_s) >= mean_t_s:
        return ((mean_b, mean_t_s),)
    return ((mean_b - spread, mean_t_s - rise_s), (mean_b + spread, mean_t_s + rise_s))


def num_steps(previous: Sequence[float], current: Sequence[float]) -> float:
    """Return how many decode steps there were between two reports."""
    sums = _between(previous, current)
    return 0.0 if sums is None else sums[0]


def _between(previous: Sequence[float], current: Sequence[float]) -> list[float] | None:
    """Return the first five sums over the steps between two reports, or None without steps."""
    if len(current) < _NUM_SUMS:
        return None
    sums = list(current[: _NUM_SUMS - 1])
    if len(previous) >= _NUM_SUMS and previous[0] <= current[0] and previous[2] <= current[2]:
        sums = [now - before for now, before in zip(sums, previous, strict=False)]
    return sums if sums[0] >= 1.0 and isfinite(sum(sums)) else None
