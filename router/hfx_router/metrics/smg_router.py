"""The `smg_router_*` families: requests that were routed to workers, and their tokens."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from hfx_router.metrics.families import (
    Labels,
    counter_family,
    grouped,
    histogram_family,
    summed,
)
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.labels import (
    CONNECTION_MODE,
    ROUTER_TYPE,
    ExportLabels,
    error_type_of,
    status_label,
    was_routed,
)
from hfx_router.metrics.paths import endpoint_of
from hfx_router.metrics.recorder import Recorder

_ROUTE_LABELS = ("router_type", "backend_type", "connection_mode", "model", "endpoint")
_TOKEN_LABELS = ("router_type", "backend_type", "model", "endpoint")


def router_families(recorder: Recorder, labels: ExportLabels, model: str) -> Iterator[Metric]:
    """Yield the families; each is complete when it is yielded."""
    route = (ROUTER_TYPE, labels.backend_type, CONNECTION_MODE, model)
    yield counter_family(
        "smg_router_requests_total",
        "Requests routed to workers and ended, well or not.",
        (*_ROUTE_LABELS, "streaming"),
        summed(
            ((*route, endpoint, "true" if streaming else "false"), part.num_observed)
            for endpoint, streaming, _, _, part in _routed(recorder)
        ),
    )
    yield histogram_family(
        "smg_router_request_duration_seconds",
        "Duration of routed requests that succeeded.",
        _ROUTE_LABELS,
        grouped(
            ((*route, endpoint), part)
            for endpoint, _, status, _, part in _routed(recorder)
            if status < 400
        ),
    )
    yield counter_family(
        "smg_router_request_errors_total",
        "Routed requests that failed, by kind of error.",
        (*_ROUTE_LABELS, "error_type"),
        summed(
            ((*route, endpoint, error_type), part.num_observed)
            for endpoint, _, status, error_code, part in _routed(recorder)
            if (error_type := error_type_of(status, error_code)) is not None
        ),
    )
    yield counter_family(
        "smg_router_upstream_responses_total",
        "Response heads received from workers, by status.",
        ("router_type", "status_code", "error_code"),
        summed(
            ((ROUTER_TYPE, status_label(status), ""), count)
            for (_, status), count in recorder.upstream_answers.items()
        ),
    )
    yield from _stream_families(recorder, (ROUTER_TYPE, labels.backend_type, model))


def _stream_families(recorder: Recorder, stream: Labels) -> Iterator[Metric]:
    yield histogram_family(
        "smg_router_ttft_seconds",
        "Time to first token of streams.",
        _TOKEN_LABELS,
        _by_endpoint(recorder.ttft_s, stream),
    )
    yield histogram_family(
        "smg_router_tpot_seconds",
        "Mean time per output token after the first, one value a stream.",
        _TOKEN_LABELS,
        _by_endpoint(recorder.tpot_s, stream),
    )
    yield counter_family(
        "smg_router_tokens_total",
        "Tokens streamed to clients.",
        (*_TOKEN_LABELS, "token_type"),
        summed(
            ((*stream, endpoint, "output"), count)
            for path, count in recorder.output_tokens.items()
            if (endpoint := endpoint_of(path)) is not None
        ),
    )
    yield histogram_family(
        "smg_router_generation_duration_seconds",
        "Time from the arrival of a streamed request to its last token.",
        _TOKEN_LABELS,
        _by_endpoint(recorder.generation_s, stream),
    )


def _by_endpoint(by_path: Mapping[str, Histogram], stream: Labels) -> dict[Labels, list[Histogram]]:
    return grouped(
        ((*stream, endpoint), part)
        for path, part in by_path.items()
        if (endpoint := endpoint_of(path)) is not None
    )


def _routed(recorder: Recorder) -> Iterator[tuple[str, bool, int, str, Histogram]]:
    for (path, streaming, status, error_code), part in recorder.answers.items():
        endpoint = endpoint_of(path)
        if endpoint is not None and was_routed(status, error_code):
            yield endpoint, streaming, status, error_code, part
