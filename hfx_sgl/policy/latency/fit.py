"""One latency model's learning: coefficients, residuals and drift, whatever the features mean."""

from collections.abc import Sequence

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.drift import DriftDetector
from hfx_sgl.policy.latency.residual import Residual
from hfx_sgl.policy.latency.rls import RecursiveLeastSquares
from hfx_sgl.policy.latency.snapshot import ModelSnapshot

FLOOR_S = 1e-6
"""No prediction is below it."""
_MOST_S = 1e4
"""What takes hours was a stall, and says nothing of a step."""
_MOST_FEATURE = 1e15


class LatencyFit:
    """Learns `duration = sum of coefficient * feature` and how far off that is."""

    __slots__ = ("_config", "_drift", "_num_before", "_rls", "residual")

    def __init__(
        self,
        prior: Sequence[float],
        scales: Sequence[float],
        config: FitConfig,
        saved: ModelSnapshot | None = None,
    ) -> None:
        """Start with the `saved` coefficients, else with the prior's; `scales` are above 0.

        What was saved of a model that was not warm is ignored.

        Raises:
            ConfigError: `saved` has another number of coefficients.
        """
        self._config = config
        self._drift = DriftDetector(config)
        if saved is None or saved.num_observations < config.num_warm_observations:
            self._rls = RecursiveLeastSquares(prior, scales, config)
            self.residual = Residual()
            self._num_before = 0
            return
        if len(saved.coefficients) != len(scales):
            raise ConfigError(
                f"coefficients: must be {len(scales)} numbers (got {len(saved.coefficients)})"
            )
        self._rls = RecursiveLeastSquares(saved.coefficients, scales, config, is_saved=True)
        self.residual = Residual(saved.p90_ratio, saved.mean_ratio)
        self._num_before = saved.num_observations

    @property
    def coefficients(self) -> tuple[float, ...]:
        """One a feature, 0 or more."""
        return self._rls.coefficients

    @property
    def num_observations(self) -> int:
        """How many observations were learnt from, those before a snapshot included."""
        return self._num_before + self._rls.num_observations

    @property
    def num_drifts(self) -> int:
        """How often the device was found to have changed."""
        return self._drift.num_drifts

    @property
    def is_warm(self) -> bool:
        """Whether there were enough observations to trust the model."""
        return self.num_observations >= self._config.num_warm_observations

    def observe(self, features: Sequence[float], duration_s: float) -> bool:
        """Learn from one duration; return False, and learn nothing, when it makes no sense.

        That is: a duration below a microsecond or above hours, a feature that is negative or
        beyond any size, or features that are all 0.
        """
        if not (FLOOR_S <= duration_s <= _MOST_S and 0.0 < sum(features) <= _MOST_FEATURE):
            return False
        if min(features) < 0.0:
            return False
        rls = self._rls
        if rls.is_settled:
            self.residual.observe(max(rls.predict(features), FLOOR_S), duration_s)
        standardised = rls.observe(features, duration_s)
        if self._drift.observe(standardised):
            rls.distrust()
        return True

    def snapshot(self) -> ModelSnapshot:
        """Return what is needed to go on later."""
        return ModelSnapshot(
            coefficients=self.coefficients,
            num_observations=self.num_observations,
            p90_ratio=self.residual.p90_ratio,
            mean_ratio=self.residual.mean_ratio,
        )
