"""What one request was promised, and whether the promise was kept."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """Latency bounds of one request in seconds; `math.inf` where nothing is promised."""

    ttft_s: float = math.inf
    """Until the first output token."""
    tpot_s: float = math.inf
    """Mean time per output token after the first."""
    e2e_s: float = math.inf
    """Until the last output token."""

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            bound_s = getattr(self, name)
            if not bound_s > 0:  # also refuses NaN
                raise ValueError(f"{name} must be more than 0 ({bound_s})")

    def is_attained(self, *, ttft_s: float, tpot_s: float, e2e_s: float) -> bool:
        """Return whether a completed request kept every bound.

        The definition of `sglang.bench_serving --goodput`. A request with a single output token
        has no time per output token; pass 0.
        """
        return ttft_s <= self.ttft_s and tpot_s <= self.tpot_s and e2e_s <= self.e2e_s
