"""When requests arrive: a renewal process of unit rate, run through a rate that varies in time.

With the cumulative rate `L(t)`, the n-th arrival is at `L^-1(x_n)` for `x_n` the n-th point of the
unit process (time rescaling, see Daley and Vere-Jones, An Introduction to the Theory of Point
Processes, 7.4). The unit process does not depend on the rate: a higher load has the same arrivals,
closer together.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from random import Random

_TOLERANCE_S = 1e-7


class Process(StrEnum):
    """How regular the arrivals are."""

    POISSON = "poisson"
    GAMMA = "gamma"
    """Gaps drawn from a gamma distribution; a coefficient of variation above 1 gives bursts."""
    UNIFORM = "uniform"
    """Evenly spaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diurnal:
    """The rate follows a sine around its mean."""

    period_s: float
    amplitude_ratio: float
    """How far it swings, as a share of the mean (0..1)."""
    phase_ratio: float = 0.0
    """Where in the period the run starts (0..1); 0 is the mean on its way up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashCrowd:
    """The rate is multiplied by a factor for a while."""

    start_s: float
    duration_s: float
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Arrivals per second as a function of time."""

    mean_per_s: float
    diurnal: Diurnal | None = None
    flash_crowd: FlashCrowd | None = None

    def cumulative(self, at_s: float) -> float:
        """Return the expected number of arrivals from 0 to `at_s`; negative before 0."""
        total = self._calm(at_s)
        crowd = self.flash_crowd
        if crowd is not None and at_s > crowd.start_s:
            until_s = min(at_s, crowd.start_s + crowd.duration_s)
            total += (crowd.factor - 1) * (self._calm(until_s) - self._calm(crowd.start_s))
        return total * self.mean_per_s

    def instant_of(self, expected: float, *, after_s: float) -> float:
        """Return when the expected number of arrivals is reached, which is after `after_s`."""
        if self.diurnal is None and self.flash_crowd is None:
            return expected / self.mean_per_s
        low_s, step_s = after_s, 1.0 / self.mean_per_s
        while self.cumulative(low_s + step_s) < expected:
            low_s += step_s
            step_s *= 2
        high_s = low_s + step_s
        return _bisected(self, expected, low_s, high_s)

    def _calm(self, at_s: float) -> float:
        """Return the cumulative rate without the crowd, for a mean of 1."""
        wave = self.diurnal
        if wave is None:
            return at_s
        omega = 2 * math.pi / wave.period_s
        phase = 2 * math.pi * wave.phase_ratio
        swing = math.cos(phase) - math.cos(phase + omega * at_s)
        return at_s + wave.amplitude_ratio / omega * swing


def arrival_times(
    rng: Random, process: Process, cv: float, intensity: Intensity, *, from_s: float = 0.0
) -> Iterator[float]:
    """Yield instants in order, without an end.

    Args:
        cv: coefficient of variation of the gaps; only a gamma process reads it.
        from_s: where to start, also before 0.
    """
    expected = intensity.cumulative(from_s)
    at_s = from_s
    if process is Process.UNIFORM:
        # A random part of the first gap is over at the start: classes do not arrive in step.
        expected += rng.random() - 1
    shape = cv**-2
    while True:
        if process is Process.POISSON:
            expected -= math.log(1 - rng.random())
        elif process is Process.GAMMA:
            expected += rng.gammavariate(shape, 1 / shape)
        else:
            expected += 1
        at_s = intensity.instant_of(expected, after_s=at_s)
        yield at_s


def _bisected(intensity: Intensity, expected: float, low_s: float, high_s: float) -> float:
    """Return where the cumulative rate crosses `expected`, by regula falsi (Illinois)."""
    low, high = intensity.cumulative(low_s) - expected, intensity.cumulative(high_s) - expected
    kept = 0
    while high_s - low_s > _TOLERANCE_S and low < 0 < high:
        at_s = low_s - low * (high_s - low_s) / (high - low)
        if not low_s < at_s < high_s:
            break
        value = intensity.cumulative(at_s) - expected
        if abs(value) <= _TOLERANCE_S * intensity.mean_per_s:
            return at_s
        if value < 0:
            low_s, low = at_s, value
            high, kept = (high / 2 if kept < 0 else high), -1
        else:
            high_s, high = at_s, value
            low, kept = (low / 2 if kept > 0 else low), 1
    return high_s if low < 0 else low_s
