"""How wrong the predictions of a model have been lately."""

from math import exp, log

_QUANTILE = 0.9
_BIN_LOG = 0.02
"""Width of a bin of the logarithm of the ratio: the quantile is good to about 1 %."""
_MAX_LOG = log(8.0)
_NUM_BINS = 2 * int(_MAX_LOG / _BIN_LOG) + 1
_DECAY = 0.99
"""About the last hundred observations count."""
_PRIOR_WEIGHT = 2.0
"""Observations that the start values count for."""
_MAX_WEIGHT = 1e12


class Residual:
    """P90 and mean of actual time over predicted time, the older the less.

    The quantile comes from a histogram of the logarithm of the ratio. Observations get heavier
    instead of the bins lighter, and the bin of the quantile is followed from one to the next,
    so that an observation costs the same however many bins there are. Ratios beyond 1/8..8 count
    as 1/8 or 8.
    """

    __slots__ = (
        "_above", "_bins", "_quantile_bin", "_total", "_weight", "mean_ratio", "num_observations",
        "p90_ratio",
    )  # fmt: skip

    def __init__(self, p90_ratio: float = 1.5, mean_ratio: float = 1.0) -> None:
        """Start with what is assumed before the first observation."""
        self.p90_ratio = p90_ratio
        """Nine of ten steps take at most this many times the predicted time."""
        self.mean_ratio = mean_ratio
        """Above 1: predictions are too low on average."""
        self.num_observations = 0
        self._bins = [0.0] * _NUM_BINS
        self._quantile_bin = _bin(p90_ratio)
        self._bins[self._quantile_bin] = _PRIOR_WEIGHT
        self._above = 0.0
        """Weight of the bins above that of the quantile."""
        self._total = _PRIOR_WEIGHT
        self._weight = 1.0

    def observe(self, predicted: float, actual: float) -> None:
        """Take a predicted time and what it turned out to be, both above 0 and finite."""
        ratio = actual / predicted
        index = _bin(ratio)
        self._weight /= _DECAY
        self._bins[index] += self._weight
        self._total += self._weight
        if index > self._quantile_bin:
            self._above += self._weight
        self._follow_quantile()
        self.num_observations += 1
        share = self._weight / self._total
        self.mean_ratio += share * (min(max(ratio, 0.125), 8.0) - self.mean_ratio)
        if self._weight > _MAX_WEIGHT:
            self._rescale()

    def _follow_quantile(self) -> None:
        bins = self._bins
        limit = (1.0 - _QUANTILE) * self._total
        index, above = self._quantile_bin, self._above
        while above > limit and index < _NUM_BINS - 1:
            index += 1
            above -= bins[index]
        while above + bins[index] <= limit and index > 0:
            above += bins[index]
            index -= 1
        self._quantile_bin, self._above = index, above
        self.p90_ratio = exp((index - _NUM_BINS // 2) * _BIN_LOG)

    def _rescale(self) -> None:
        factor = 1.0 / self._weight
        self._bins = [value * factor for value in self._bins]
        self._above = sum(self._bins[self._quantile_bin + 1 :])
        self._total = sum(self._bins)
        self._weight = 1.0


def _bin(ratio: float) -> int:
    if ratio <= 0.125:
        return 0
    index = round(log(ratio) / _BIN_LOG) + _NUM_BINS // 2
    return min(index, _NUM_BINS - 1)
