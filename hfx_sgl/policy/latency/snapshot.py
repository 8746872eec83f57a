"""What is saved of latency models and loaded again: plain numbers."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """One fitted model."""

    coefficients: tuple[float, ...]
    """Seconds for each unit of the feature, 0 or more."""
    num_observations: int
    p90_ratio: float
    """Actual over predicted time: P90."""
    mean_ratio: float

    def __post_init__(self) -> None:
        check(
            *(at_least("coefficients", value, 0) for value in self.coefficients),
            at_least("num_observations", self.num_observations, 0),
            more_than("p90_ratio", self.p90_ratio, 0),
            more_than("mean_ratio", self.mean_ratio, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySnapshot:
    """The models of one class of workers."""

    prefill: ModelSnapshot
    decode: ModelSnapshot
    transfer: ModelSnapshot
