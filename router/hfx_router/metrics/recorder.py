"""The counters that the byte path bumps: plain numbers and lists, well under a microsecond a bump.

Knows nothing of Prometheus; the exporter reads these fields when somebody scrapes.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf

from hfx_router.metrics.class_labels import ClassLabels
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.scheduling_recorder import SchedulingRecorder
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role

DURATION_BOUNDS_S: tuple[float, ...] = (
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 45, 60, 90, 120,
    180, 240,
)  # fmt: skip
"""Default bounds of request durations: those of sglang-router 0.3.2, which dashboards expect."""

TTFT_BOUNDS_S: tuple[float, ...] = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
    80,
)  # fmt: skip
"""The OpenTelemetry GenAI bounds for time to first token, extended by 20, 40 and 80 s."""

TPOT_BOUNDS_S: tuple[float, ...] = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
)  # fmt: skip
"""The OpenTelemetry GenAI bounds for time per output token."""

LOOP_LAG_BOUNDS_S: tuple[float, ...] = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
)  # fmt: skip
"""From a tenth of a millisecond, well below what a client can feel, to a loop that stands still."""


def with_bounds(bounds_s: Sequence[float], extra_s: Iterable[float]) -> tuple[float, ...]:
    """Return the bounds with those among them that are finite added, in order."""
    return tuple(sorted({*bounds_s, *(bound_s for bound_s in extra_s if bound_s < inf)}))


class Recorder:
    """Everything one router process counts."""

    def __init__(
        self, duration_bounds_s: Sequence[float] = DURATION_BOUNDS_S, slos: Sequence[Slo] = ()
    ) -> None:
        """`slos` are the configured ones; their bounds become bounds of histograms."""
        self._duration_bounds_s = duration_bounds_s
        self._ttft_bounds_s = with_bounds(TTFT_BOUNDS_S, (slo.ttft_s for slo in slos))
        self._tpot_bounds_s = with_bounds(TPOT_BOUNDS_S, (slo.tpot_s for slo in slos))
        self._class_labels = ClassLabels()
        self.scheduling = SchedulingRecorder(self._class_labels)
        """About the decisions of the scheduler; stays empty without one."""
        self.answers: dict[tuple[str, bool, int, str], Histogram] = {}
        """Duration by (endpoint path, streaming, status, error code or ''); 499: client left."""
        self.control_answers: dict[tuple[str, str, int, str], Histogram] = {}
        """Duration of the router's own answers by (method, path, status, error code or '')."""
        self.upstream_answers: Counter[tuple[Role, int]] = Counter()
        """Response heads received from workers by (role, status)."""
        self.ttft_s: dict[str, Histogram] = {}
        """Time to first token of streams, by endpoint path."""
        self.tpot_s: dict[str, Histogram] = {}
        """Mean time per output token after the first, one value a stream, by endpoint path."""
        self.generation_s: dict[str, Histogram] = {}
        """Time from arrival to the last token of streams, by endpoint path."""
        self.promises: Counter[tuple[str, bool]] = Counter()
        """Requests that were promised something and judged, by (class, whether it was kept)."""
        self.output_tokens: Counter[str] = Counter()
        """Tokens streamed, by endpoint path."""
        self.retries: Counter[tuple[str, Role]] = Counter()
        """Attempts after the first by (endpoint path, role of the worker that made it needed)."""
        self.retries_exhausted: Counter[tuple[str, Role]] = Counter()
        """Requests that failed although retrying was allowed, by (endpoint path, role)."""
        self.retry_backoff_s: dict[int, Histogram] = {}
        """Backoff waited before attempt N, by N."""
        self.worker_errors: Counter[tuple[Role, str]] = Counter()
        """Failed legs by (role, kind): connect, reset, timeout, protocol, server_error."""
        self.health_checks: Counter[tuple[Role, str]] = Counter()
        """Health checks by (role, result): success, failure."""
        self.departed_selections: Counter[tuple[Role, str]] = Counter()
        """Selections of workers that have left, by (role, model id)."""
        self.admission_s: Histogram = Histogram(duration_bounds_s)
        """Time waited in the admission queue by those who had to wait and were let in."""
        self.admissions: Counter[str] = Counter()
        """Outcomes: allowed, queue_full, queue_deadline_exceeded, rate_limited, cancelled."""
        self.aborts: Counter[tuple[Role, str]] = Counter()
        """Abort calls to workers by (role, outcome): sent, failed."""
        self.loop_lag_s: Histogram = Histogram(LOOP_LAG_BOUNDS_S)
        """How late the event loop ran a timer."""
        self.num_connections = 0
        """Client connections open at the moment."""
        self.num_inflight = 0
        """Requests received and not answered to the end at the moment."""
        self.num_queued = 0
        """Requests waiting in the admission queue at the moment."""

    def answered(
        self, path: str, streaming: bool, status: int, error_code: str, duration_s: float
    ) -> None:
        """Count one finished request."""
        key = (path, streaming, status, error_code)
        histogram = self.answers.get(key)
        if histogram is None:
            histogram = self.answers[key] = Histogram(self._duration_bounds_s)
        histogram.observe(duration_s)

    def controlled(
        self, method: str, path: str, status: int, error_code: str, duration_s: float
    ) -> None:
        """Count one request that was answered without a worker.

        The texts become keys that live as long as the process: fold them with
        `metrics.paths.fold_method` and `fold_path` first.
        """
        key = (method, path, status, error_code)
        histogram = self.control_answers.get(key)
        if histogram is None:
            histogram = self.control_answers[key] = Histogram(self._duration_bounds_s)
        histogram.observe(duration_s)

    def streamed(self, path: str, ttft_s: float, tpot_s: float | None, num_tokens: int) -> None:
        """Count the timing of one finished stream; `tpot_s` is None with fewer than two tokens."""
        if path not in self.ttft_s:
            self.ttft_s[path] = Histogram(self._ttft_bounds_s)
            self.tpot_s[path] = Histogram(self._tpot_bounds_s)
            self.generation_s[path] = Histogram(self._duration_bounds_s)
        self.ttft_s[path].observe(ttft_s)
        self.output_tokens[path] += num_tokens
        generation_s = ttft_s
        if tpot_s is not None:
            self.tpot_s[path].observe(tpot_s)
            generation_s += tpot_s * (num_tokens - 1)
        self.generation_s[path].observe(generation_s)

    def judged(self, class_name: str, is_met: bool) -> None:
        """Count a promise as kept or broken. Class names may be a client's: only so many are kept
        apart."""
        self.promises[self._class_labels.label(class_name), is_met] += 1

    def backed_off(self, attempt: int, backoff_s: float) -> None:
        """Count the wait before attempt number `attempt` (the first retry is attempt 2)."""
        if attempt not in self.retry_backoff_s:
            self.retry_backoff_s[attempt] = Histogram(self._duration_bounds_s)
        self.retry_backoff_s[attempt].observe(backoff_s)

    def worker_left(self, role: Role, model_id: str, num_selected: int) -> None:
        """Keep a leaving worker's selections, so that the total of its pool never decreases."""
        self.departed_selections[role, model_id] += num_selected
