"""What the scheduler's decisions are counted by: plain numbers, bumped on the byte path."""

from hfx_router.metrics.class_labels import ClassLabels
from hfx_router.metrics.histogram import Histogram
from hfx_sgl.policy.scheduler.decision import Reason

QUEUE_WAIT_BOUNDS_S: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80,
)  # fmt: skip
"""From a turn of the event loop to what only requests without a promise wait."""

SLACK_BOUNDS_S: tuple[float, ...] = (
    -10, -5, -2.5, -1, -0.5, -0.25, -0.1, -0.05, 0,
    0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
)  # fmt: skip
"""Up to 0 is late."""

_ERRORS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
ERROR_BOUNDS_S: tuple[float, ...] = (*(-bound_s for bound_s in reversed(_ERRORS_S)), 0, *_ERRORS_S)
"""For times to first token and per output token alike; above 0 predictions were too low."""

DECIDE_BOUNDS_S: tuple[float, ...] = (
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2,
)  # fmt: skip
"""A tenth of a millisecond is what a decision may take; ten would be felt by every stream."""


class SchedulingRecorder:
    """Everything that is counted about the decisions of the scheduler."""

    def __init__(self, class_labels: ClassLabels) -> None:
        self.class_labels = class_labels
        self.decisions = dict.fromkeys(Reason, 0)
        """Decisions by why."""
        self.queue_wait_s: dict[str, Histogram] = {}
        """From arrival until sent, by class label."""
        self.slack_s: dict[str, Histogram] = {}
        """Time to spare before the deadline of the first token when it was sent, by class label;
        only where there is one."""
        self.ttft_error_s = Histogram(ERROR_BOUNDS_S)
        """Actual minus predicted time to first token, of streams."""
        self.tpot_error_s = Histogram(ERROR_BOUNDS_S)
        """The same of the mean time per output token after the first."""
        self.decide_s = Histogram(DECIDE_BOUNDS_S)
        """How long a sample of the calls to the scheduler took that ask for decisions."""

    def sent(self, label: str, waited_s: float, slack_s: float | None) -> None:
        """Count one request that was sent to its workers; `slack_s` is None without a deadline."""
        waits = self.queue_wait_s.get(label)
        if waits is None:
            waits = self.queue_wait_s[label] = Histogram(QUEUE_WAIT_BOUNDS_S)
        waits.observe(waited_s)
        if slack_s is None:
            return
        slacks = self.slack_s.get(label)
        if slacks is None:
            slacks = self.slack_s[label] = Histogram(SLACK_BOUNDS_S)
        slacks.observe(slack_s)
