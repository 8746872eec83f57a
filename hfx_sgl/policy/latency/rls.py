"""Recursive least squares with forgetting, on relative residuals, for a few coefficients.

Knows nothing of what the features mean.
"""

from collections.abc import Sequence
from math import log, sqrt

from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.linear_algebra import Matrix, cholesky, solve

_FIRST_SCALE = 0.5
"""Usual residual before any was seen: a prior may well be wrong by half."""
_LEAST_SCALE = 0.01
_SCALE_RATE = 0.03
_LEAST_WEIGHT_RATIO = 1e-3
"""An observation counts relative to its prediction, or to this part of the prior's."""
_NUM_FIRST = 5
"""First observations that only show how fast the device as a whole is."""


class RecursiveLeastSquares:
    """Fits `target = sum of coefficient * feature` with coefficients that are never negative.

    Each observation is divided by the geometric mean of prediction and target, so that errors
    count in percent, small targets as much as large ones and half as much as twice. Coefficients u
    are held in multiples of `scales`. With the divided features x and residual e the update is

        A <- f A + (1 - f) P + w x x',   u <- u + A^-1 w x e

    with f the forgetting ratio. P, the information of the prior, is not forgotten, so that A
    never becomes singular: what the input does not show stays as it was, and moves in
    proportion with the rest, because the prior says that a device that is slower than expected in
    one respect is so in all (`common_spread` against `own_spread`).
    The weight w is Huber's: below 1 for a residual beyond `clip_scales` times the running mean of
    the absolute residuals, such that w e is no more than that.
    The first observations may be far off (a server that warms up): until there are five, all
    coefficients are the prior's times the median of target over prediction; the five are then
    learnt from in their order.
    A coefficient that would become negative is set to zero and the others are adjusted by
    the least change of the weighted squares.
    """

    __slots__ = (
        "_config", "_first", "_information", "_restored", "_scales", "_u", "coefficients",
        "num_observations", "residual_scale",
    )  # fmt: skip

    def __init__(
        self,
        prior: Sequence[float],
        scales: Sequence[float],
        config: FitConfig,
        *,
        is_saved: bool = False,
    ) -> None:
        """Start at `prior` (0 or more); `scales` (above 0) are coefficients of the usual size.

        With `is_saved` the prior is what was learnt before, else it must be above 0.
        """
        self._config = config
        self._scales = tuple(scales)
        self._u = [value / scale for value, scale in zip(prior, scales, strict=True)]
        self._first: list[tuple[Sequence[float], float]] | None = None if is_saved else []
        self._trust(config.saved_spread_ratio if is_saved else 1.0)
        self.coefficients = tuple(prior)
        """One a feature, 0 or more."""
        self.num_observations = 0
        self.residual_scale = 2.0 * config.noise_ratio if is_saved else _FIRST_SCALE
        """Running mean of the absolute relative residual, clipped."""

    @property
    def is_settled(self) -> bool:
        """Whether it is past the first observations."""
        return self._first is None

    def predict(self, features: Sequence[float]) -> float:
        """Return the target that the coefficients give for the features."""
        return sum([a * b for a, b in zip(self.coefficients, features, strict=True)])

    def observe(self, features: Sequence[float], target: float) -> float:
        """Learn from finite features of 0 or more, one of them above 0, and a target above 0.

        Returns the clipped residual in multiples of the usual one, as it was before learning.
        """
        self.num_observations += 1
        if self._first is None:
            return self._learn(features, target)
        self._first.append((features, target))
        self._match_first(self._first)
        if len(self._first) == _NUM_FIRST:
            self.residual_scale = self._first_scale(self._first)
            for each in self._first:
                self._learn(*each)
            self._first = None
        return 0.0

    def distrust(self) -> None:
        """Learn fast again, the size of what was learnt more than its proportions."""
        self._trust(self._config.drift_spread_ratio)

    def _trust(self, spread_ratio: float) -> None:
        """Take the coefficients for a prior with the configured spreads times a ratio up to 1."""
        prior = _prior_information(self._u, self._config)
        forgotten = 1.0 - self._config.forgetting_ratio
        self._restored = [[forgotten * value for value in row] for row in prior]
        self._information = [[value / spread_ratio**2 for value in row] for row in prior]

    def _match_first(self, first: list[tuple[Sequence[float], float]]) -> None:
        ratios = sorted([target / self.predict(features) for features, target in first])
        median = ratios[(len(ratios) - 1) // 2]
        self._u = [value * median for value in self._u]
        self.coefficients = tuple([a * b for a, b in zip(self._u, self._scales, strict=True)])
        self._trust(1.0)

    def _first_scale(self, first: list[tuple[Sequence[float], float]]) -> float:
        logs = sorted([abs(log(target / self.predict(features))) for features, target in first])
        return max(logs[len(logs) // 2], self._config.noise_ratio)

    def _learn(self, features: Sequence[float], target: float) -> float:
        prediction = self.predict(features)
        scaled = [a * b for a, b in zip(self._scales, features, strict=True)]
        divisor = sqrt(target) * sqrt(max(prediction, _LEAST_WEIGHT_RATIO * sum(scaled)))
        residual = (target - prediction) / divisor
        size = abs(residual)
        limit = self._config.clip_scales * self.residual_scale
        weight = 1.0 if size <= limit else limit / size
        standardised = weight * residual / self.residual_scale
        self._update([value / divisor for value in scaled], residual, weight)
        rate = max(_SCALE_RATE, 1.0 / (self.num_observations + 3))
        scale = self.residual_scale + rate * (weight * size - self.residual_scale)
        self.residual_scale = max(scale, _LEAST_SCALE)
        return standardised

    def _update(self, x: list[float], residual: float, weight: float) -> None:
        keep = self._config.forgetting_ratio
        for row, restored, xi in zip(self._information, self._restored, x, strict=True):
            wxi = weight * xi
            row[:] = [keep * a + b + wxi * xj for a, b, xj in zip(row, restored, x, strict=False)]
        lower = cholesky(self._information)
        u = self._u
        step = weight * residual
        for i, direction in enumerate(solve(lower, x)):
            u[i] += step * direction
        if min(u) < 0.0:
            _make_non_negative(u, lower)
        self.coefficients = tuple([a * b for a, b in zip(u, self._scales, strict=True)])


def _prior_information(centre: Sequence[float], config: FitConfig) -> Matrix:
    """Return the lower triangle of the prior's inverse covariance, in units of the noise.

    With m the centre and l its largest value, the covariance is
    `common_spread^2 m m' + own_spread^2 l^2 I`; the inverse is by the formula of Sherman and
    Morrison.
    """
    level = max(max(centre), _LEAST_WEIGHT_RATIO)
    common, own = config.common_spread**2, (config.own_spread * level) ** 2
    weight = config.noise_ratio**2 / own
    shared = common / (own + common * sum([value * value for value in centre]))
    return [
        [weight * ((i == j) - shared * a * b) for j, b in enumerate(centre[: i + 1])]
        for i, a in enumerate(centre)
    ]


def _make_non_negative(u: list[float], lower: Matrix) -> None:
    """Set negative values to zero, one after the other, at the least cost in the squares."""
    size = len(u)
    for _ in range(size):
        worst = min(range(size), key=u.__getitem__)
        if u[worst] >= 0.0:
            return
        column = solve(lower, [float(i == worst) for i in range(size)])
        factor = u[worst] / column[worst]
        for i in range(size):
            u[i] -= factor * column[i]
        u[worst] = 0.0
    for i in range(size):
        u[i] = max(u[i], 0.0)
