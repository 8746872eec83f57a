"""Distributions of lengths and durations, by their quantile functions.

Drawing through the quantile function takes exactly one uniform number per value, so that a change
of one distribution leaves every other draw of its stream in place.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Protocol

_NORMAL = NormalDist()
_P90_SIGMAS = _NORMAL.inv_cdf(0.9)


class Distribution(Protocol):
    """A distribution of numbers within `low` and `high`."""

    @property
    def low(self) -> float:
        """The smallest value."""
        ...

    @property
    def high(self) -> float:
        """The largest value; finite."""
        ...

    def at(self, share: float) -> float:
        """Return the value that this share (0..1) of all draws stays below."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same value."""

    value: float

    @property
    def low(self) -> float:
        """The value."""
        return self.value

    @property
    def high(self) -> float:
        """The value."""
        return self.value

    def at(self, share: float) -> float:
        """Return the value."""
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every value between the bounds is as likely as any other."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """Return the value below which this share lies."""
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A lognormal distribution cut off at the bounds: what lies beyond them is drawn again.

    `median` and `p90` describe it before the cut; p90 must exceed the median.
    """

    median: float
    p90: float
    low: float
    high: float
    _mu: float = field(init=False)
    _sigma: float = field(init=False)
    _share_low: float = field(init=False)
    _share_width: float = field(init=False)

    def __post_init__(self) -> None:
        mu = math.log(self.median)
        sigma = (math.log(self.p90) - mu) / _P90_SIGMAS
        share_low = _NORMAL.cdf((math.log(self.low) - mu) / sigma) if self.low > 0 else 0.0
        share_high = _NORMAL.cdf((math.log(self.high) - mu) / sigma)
        object.__setattr__(self, "_mu", mu)
        object.__setattr__(self, "_sigma", sigma)
        object.__setattr__(self, "_share_low", share_low)
        object.__setattr__(self, "_share_width", share_high - share_low)

    def at(self, share: float) -> float:
        """Return the value below which this share lies."""
        within = self._share_low + share * self._share_width
        if not 0 < within < 1:  # the normal quantile has no value at the ends
            return self.low if within <= 0 else self.high
        value = math.exp(self._mu + self._sigma * _NORMAL.inv_cdf(within))
        return min(max(value, self.low), self.high)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Measured quantiles, straight lines between them.

    Args:
        shares: rising, the first 0 and the last 1.
        values: the value below which each share lies; never falling.
    """

    shares: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def low(self) -> float:
        """The first value."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The last value."""
        return self.values[-1]

    def at(self, share: float) -> float:
        """Return the value below which this share lies."""
        right = min(bisect_right(self.shares, share), len(self.shares) - 1)
        left_share, right_share = self.shares[right - 1], self.shares[right]
        left, right_value = self.values[right - 1], self.values[right]
        return left + (right_value - left) * (share - left_share) / (right_share - left_share)


def whole(value: float) -> int:
    """Return a length in tokens: the nearest whole number, at least 1."""
    return max(1, round(value))
