"""The `smg_worker_*` families: pools, health, breakers and retries."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric

from hfx_router.metrics.families import (
    Labels,
    counter_family,
    gauge_family,
    grouped,
    histogram_family,
    summed,
)
from hfx_router.metrics.labels import CONNECTION_MODE, ErrorType, ExportLabels, clean
from hfx_router.metrics.paths import endpoint_of
from hfx_router.metrics.recorder import Recorder
from hfx_router.metrics.worker_reading import WorkerReading, one_for_each_name
from hfx_sgl.types import Role

_POOL_LABELS = ("worker_type", "connection_mode", "model")


def worker_families(
    recorder: Recorder, readings: Sequence[WorkerReading], labels: ExportLabels
) -> Iterator[Metric]:
    """Yield the families; each is complete when it is yielded."""
    yield gauge_family(
        "smg_worker_pool_size",
        "Registered workers, usable or not; each data-parallel rank is one.",
        _POOL_LABELS,
        summed(((one.role, CONNECTION_MODE, one.model), 1) for one in readings),
    )
    yield _selections(recorder, readings, labels)
    yield from _per_worker_families(one_for_each_name(readings))
    yield counter_family(
        "smg_worker_health_checks_total",
        "Health checks by result.",
        ("worker_type", "result"),
        {(role, clean(result)): count for (role, result), count in recorder.health_checks.items()},
    )
    yield counter_family(
        "smg_worker_errors_total",
        "Requests to workers that failed there or on the way.",
        ("worker_type", "connection_mode", "error_type"),
        summed(
            ((role, CONNECTION_MODE, _error_type(kind)), count)
            for (role, kind), count in recorder.worker_errors.items()
        ),
    )
    yield from _retry_families(recorder)


def _selections(
    recorder: Recorder, readings: Sequence[WorkerReading], labels: ExportLabels
) -> Metric:
    totals: Counter[tuple[Role, str]] = Counter()
    for one in readings:
        totals[one.role, one.model] += one.num_selected
    for (role, model), count in recorder.departed_selections.items():
        totals[role, clean(model)] += count
    return counter_family(
        "smg_worker_selection_total",
        "Times a worker of the pool was chosen for a request.",
        (*_POOL_LABELS, "policy"),
        {
            (role, CONNECTION_MODE, model, clean(labels.policies.get(role, "none"))): count
            for (role, model), count in totals.items()
        },
    )


_GAUGES: tuple[tuple[str, str, Callable[[WorkerReading], float]], ...] = (
    ("smg_worker_health", "1 healthy, 0 not.", lambda one: one.is_healthy),
    ("smg_worker_requests_active", "Requests under way.", lambda one: one.num_inflight),
    ("smg_worker_cb_state", "Breaker: 0 closed, 1 open, 2 half open.", lambda one: one.cb_state),
    (
        "smg_worker_cb_consecutive_failures",
        "Failures since the last success.",
        lambda one: one.consecutive_failures,
    ),
    (
        "smg_worker_cb_consecutive_successes",
        "Successes since the last failure.",
        lambda one: one.consecutive_successes,
    ),
)


def _per_worker_families(workers: Sequence[WorkerReading]) -> Iterator[Metric]:
    for name, documentation, value_of in _GAUGES:
        values: dict[Labels, float] = {(one.name,): value_of(one) for one in workers}
        yield gauge_family(name, documentation, ("worker",), values)
    yield counter_family(
        "smg_worker_cb_transitions_total",
        "State changes of the breaker.",
        ("worker", "from", "to"),
        {(one.name, old, new): count for one in workers for old, new, count in one.transitions},
    )
    outcomes: dict[Labels, float] = {}
    for one in workers:
        outcomes[one.name, "success"] = one.num_ok
        outcomes[one.name, "failure"] = one.num_failed
    yield counter_family(
        "smg_worker_cb_outcomes_total",
        "What the breaker was told.",
        ("worker", "outcome"),
        outcomes,
    )


def _retry_families(recorder: Recorder) -> Iterator[Metric]:
    for name, documentation, counts in (
        ("smg_worker_retries_total", "Attempts after the first.", recorder.retries),
        (
            "smg_worker_retries_exhausted_total",
            "Requests that failed although retrying was allowed.",
            recorder.retries_exhausted,
        ),
    ):
        yield counter_family(
            name,
            documentation,
            ("worker_type", "endpoint"),
            summed(
                ((role, endpoint), count)
                for (path, role), count in counts.items()
                if (endpoint := endpoint_of(path)) is not None
            ),
        )
    # The contract numbers waits: the one before the second attempt is attempt 1.
    yield histogram_family(
        "smg_worker_retry_backoff_seconds",
        "Time waited before a retry, by number of the retry.",
        ("attempt",),
        grouped(((str(attempt - 1),), part) for attempt, part in recorder.retry_backoff_s.items()),
    )


def _error_type(kind: str) -> str:
    return ErrorType.TIMEOUT if kind == "timeout" else ErrorType.BACKEND
