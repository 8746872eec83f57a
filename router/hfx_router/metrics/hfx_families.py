"""The `hfx_*` families: what the contract of sglang-router has no name for."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from hfx_router.metrics.families import (
    Labels,
    counter_family,
    gauge_family,
    grouped,
    histogram_family,
    summed,
)
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.labels import ExportLabels, clean, outcome_of
from hfx_router.metrics.paths import endpoint_of
from hfx_router.metrics.recorder import Recorder
from hfx_router.metrics.worker_reading import WorkerReading, WorkerState, one_for_each_name


def hfx_request_families(recorder: Recorder, model: str) -> Iterator[Metric]:
    """Yield the families about requests; each is complete when it is yielded."""
    yield counter_family(
        "hfx_router_requests_total",
        "Inference requests ended, by how they ended for the client.",
        ("model", "outcome"),
        summed(((model, outcome), part.num_observed) for _, outcome, part in _ended(recorder)),
    )
    yield histogram_family(
        "hfx_router_request_duration_seconds",
        "Time from the first byte of an inference request to the end of its answer.",
        ("model", "endpoint", "outcome"),
        grouped(((model, endpoint, outcome), part) for endpoint, outcome, part in _ended(recorder)),
    )
    yield counter_family(
        "hfx_router_slo_attained_total",
        "Requests that were promised something, by class and by whether the promise was kept.",
        ("class", "met"),
        {
            (clean(name), "true" if is_met else "false"): count
            for (name, is_met), count in recorder.promises.items()
        },
    )
    for name, documentation, by_path in (
        ("hfx_router_ttft_seconds", "Time to first token of streams.", recorder.ttft_s),
        (
            "hfx_router_tpot_seconds",
            "Mean time per output token after the first, one value a stream.",
            recorder.tpot_s,
        ),
    ):
        yield histogram_family(
            name,
            documentation,
            ("model", "endpoint"),
            grouped(
                ((model, endpoint), part)
                for path, part in by_path.items()
                if (endpoint := endpoint_of(path)) is not None
            ),
        )


def hfx_process_families(recorder: Recorder, labels: ExportLabels) -> Iterator[Metric]:
    """Yield the families about this router process."""
    yield histogram_family(
        "hfx_router_admission_queue_wait_seconds",
        "Time waited in the admission queue by requests that were let in.",
        (),
        {(): [recorder.admission_s]},
    )
    yield gauge_family(
        "hfx_router_admission_queue_requests",
        "Requests waiting in the admission queue.",
        (),
        {(): recorder.num_queued},
    )
    yield gauge_family(
        "hfx_router_inflight_requests",
        "Requests received and not answered to the end.",
        (),
        {(): recorder.num_inflight},
    )
    yield counter_family(
        "hfx_router_aborts_total",
        "Abort calls to workers.",
        ("role", "outcome"),
        {(role, clean(outcome)): count for (role, outcome), count in recorder.aborts.items()},
    )
    yield histogram_family(
        "hfx_router_event_loop_lag_seconds",
        "How late the event loop ran a timer.",
        (),
        {(): [recorder.loop_lag_s]},
    )
    yield gauge_family(
        "hfx_build_info",
        "Always 1; the label is the version that runs.",
        ("version",),
        {(clean(labels.version),): 1},
    )


def hfx_worker_families(
    recorder: Recorder, readings: Sequence[WorkerReading], num_unreadable: int
) -> Iterator[Metric]:
    """Yield the families about workers."""
    workers = one_for_each_name(readings)
    yield gauge_family(
        "hfx_worker_inflight_requests",
        "Requests that this router has under way at the worker.",
        ("worker", "role"),
        {(one.name, one.role): one.num_inflight for one in workers},
    )
    states: dict[Labels, float] = {
        (one.name, state): one.state is state for one in workers for state in WorkerState
    }
    yield gauge_family(
        "hfx_worker_state",
        "1 for the state that the worker is in, 0 for the others.",
        ("worker", "state"),
        states,
    )
    yield counter_family(
        "hfx_worker_errors_total",
        "Requests to workers that failed there or on the way, by what happened.",
        ("role", "kind"),
        {(role, clean(kind)): count for (role, kind), count in recorder.worker_errors.items()},
    )
    yield gauge_family(
        "hfx_worker_unreadable_records",
        "Worker records that this scrape had to leave out.",
        (),
        {(): num_unreadable},
    )


def _ended(recorder: Recorder) -> Iterator[tuple[str, str, Histogram]]:
    for (path, _, status, error_code), part in recorder.answers.items():
        endpoint = endpoint_of(path)
        if endpoint is not None:
            yield endpoint, outcome_of(status, error_code), part
