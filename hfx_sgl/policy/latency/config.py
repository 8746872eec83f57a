"""Settings of the online fit. The defaults were chosen on the step-time tables that ship."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than, within


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How fast a model learns and what it distrusts. All ratios are relative to a prediction."""

    forgetting_ratio: float = 0.995
    """What is left of an observation's weight when the next one comes; 1 never forgets."""
    noise_ratio: float = 0.05
    """Expected scatter of a measured time: says how many observations outweigh the prior."""
    common_spread: float = 2.0
    """How far the device as a whole may be from the prior, in multiples of it."""
    own_spread: float = 0.5
    """How far one coefficient may be from what the others suggest, in multiples of it."""
    saved_spread_ratio: float = 0.1
    """How far saved coefficients may be off, in multiples of the spreads of the prior."""
    clip_scales: float = 3.0
    """A residual counts as at most this many times the usual one."""
    drift_slack: float = 1.0
    """Residuals up to this many times the usual one are no sign of drift."""
    drift_threshold: float = 8.0
    """Sum of what goes beyond the slack, in usual residuals, that is called drift."""
    drift_spread_ratio: float = 0.2
    """How far the coefficients may be off after a drift, in multiples of the same spreads."""
    num_warm_observations: int = 10
    """From so many on a model counts as warm."""

    def __post_init__(self) -> None:
        check(
            within("forgetting_ratio", self.forgetting_ratio, 0.5, 1.0),
            more_than("noise_ratio", self.noise_ratio, 0),
            at_least("common_spread", self.common_spread, 0),
            more_than("own_spread", self.own_spread, 0),
            within("saved_spread_ratio", self.saved_spread_ratio, 0.001, 1.0),
            at_least("clip_scales", self.clip_scales, 1),
            at_least("drift_slack", self.drift_slack, 0),
            more_than("drift_threshold", self.drift_threshold, 0),
            within("drift_spread_ratio", self.drift_spread_ratio, 0.001, 1.0),
            at_least("num_warm_observations", self.num_warm_observations, 1),
        )
