"""What the scheduler of a simulation gets to know, and how well."""

import random
from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, within
from hfx_sgl.policy.latency.snapshot import LatencySnapshot

_MOST_ERROR_RATIO = 0.9
"""An estimate must stay above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """By default what a router has that is connected to healthy workers.

    Raises:
        ConfigError: a value is out of range.
    """

    saved_models: LatencySnapshot | None = None
    """Latency models to start from; None: those of a scheduler that has seen nothing."""
    tells_times: bool = True
    """Whether reports say how long steps took; else the latency models stay as they are."""
    report_delay_s: float = 0.0
    """How old the reports of workers are when they arrive."""
    report_loss_ratio: float = 0.0
    """Share of the reports that never arrive."""
    prompt_error_ratio: float = 0.0
    """How far the estimated length of a prompt may be off, to either side, as a share of it."""

    def __post_init__(self) -> None:
        check(
            at_least("--report-delay-s", self.report_delay_s, 0),
            within("--report-loss", self.report_loss_ratio, 0, 1),
            within("--prompt-error", self.prompt_error_ratio, 0, _MOST_ERROR_RATIO),
        )

    def estimate_ratio(self, request_id: str) -> float:
        """Return the estimated over the true length of a request's prompt; equal for equal ids."""
        if not self.prompt_error_ratio:
            return 1.0
        error = random.Random(f"prompt:{request_id}").uniform(-1.0, 1.0)
        return 1.0 + error * self.prompt_error_ratio

    def is_lost(self, worker_id: str, number: int, seed: int) -> bool:
        """Return whether the report with this number of a worker never arrives."""
        if not self.report_loss_ratio:
            return False
        drawn = random.Random(f"report:{seed}:{worker_id}:{number}").random()
        return drawn < self.report_loss_ratio
