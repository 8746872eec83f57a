"""The `smg_http_*` families: the router as a black box, its own endpoints included."""

from collections import Counter
from collections.abc import Iterator

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
from hfx_router.metrics.labels import clean, status_label
from hfx_router.metrics.paths import fold_method, fold_path, method_of
from hfx_router.metrics.recorder import Recorder

# Waiting too long counts as rejected, as in sglang-router; a client that left while it
# waited was neither let in nor turned away.
_RATE_LIMIT_RESULTS: dict[str, str] = {
    "allowed": "allowed",
    "queue_full": "rejected",
    "queue_deadline_exceeded": "rejected",
    "rate_limited": "rejected",
}


def http_families(recorder: Recorder) -> Iterator[Metric]:
    """Yield the families; each is complete when it is yielded."""
    durations = grouped(((method, path), part) for method, path, _, _, part in _answers(recorder))
    yield counter_family(
        "smg_http_requests_total",
        "HTTP requests answered, by method and path.",
        ("method", "path"),
        {labels: sum(part.num_observed for part in parts) for labels, parts in durations.items()},
    )
    yield histogram_family(
        "smg_http_request_duration_seconds",
        "Time from the first byte of a request to the last byte of its answer.",
        ("method", "path"),
        durations,
    )
    yield counter_family(
        "smg_http_responses_total",
        "HTTP answers by status and error code of the router; 499 is a client that left.",
        ("status_code", "error_code"),
        summed(
            ((status_label(status), clean(error_code)), part.num_observed)
            for _, _, status, error_code, part in _answers(recorder)
        ),
    )
    yield gauge_family(
        "smg_http_connections_active",
        "Client connections open.",
        (),
        {(): recorder.num_connections},
    )
    yield counter_family(
        "smg_http_rate_limit_total",
        "Admission decisions: allowed or rejected.",
        ("result",),
        _rate_limit_results(recorder.admissions),
    )


def _answers(recorder: Recorder) -> Iterator[tuple[str, str, int, str, Histogram]]:
    for (path, _, status, error_code), part in recorder.answers.items():
        folded = fold_path(path)
        yield method_of(folded), folded, status, error_code, part
    for (method, path, status, error_code), part in recorder.control_answers.items():
        yield fold_method(method), fold_path(path), status, error_code, part


def _rate_limit_results(admissions: Counter[str]) -> Counter[Labels]:
    return summed(
        ((_RATE_LIMIT_RESULTS[outcome],), count)
        for outcome, count in admissions.items()
        if outcome in _RATE_LIMIT_RESULTS
    )
