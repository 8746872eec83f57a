"""Statistics of a set of durations. Exact: every value is kept, none is put into a bucket."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyStats:
    """What is said about the durations of one metric."""

    mean_ms: float
    median_ms: float
    std_ms: float
    """Of the values as the whole population, as `numpy.std` computes it."""
    p90_ms: float
    p95_ms: float
    p99_ms: float


def latency_stats(durations_s: Sequence[float]) -> LatencyStats | None:
    """Return the statistics of durations in any order; None without a single one."""
    if not durations_s:
        return None
    ordered = sorted(durations_s)
    mean_s = math.fsum(ordered) / len(ordered)
    variance = math.fsum((value - mean_s) ** 2 for value in ordered) / len(ordered)
    return LatencyStats(
        mean_ms=mean_s * _MS_PER_S,
        median_ms=percentile(ordered, 50) * _MS_PER_S,
        std_ms=math.sqrt(variance) * _MS_PER_S,
        p90_ms=percentile(ordered, 90) * _MS_PER_S,
        p95_ms=percentile(ordered, 95) * _MS_PER_S,
        p99_ms=percentile(ordered, 99) * _MS_PER_S,
    )


def percentile(ordered: Sequence[float], rank: float) -> float:
    """Return the percentile `rank` (0..100) of ascending values.

    Interpolates linearly between the two values around the rank, as `numpy.percentile` does.
    """
    place = (len(ordered) - 1) * rank / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
