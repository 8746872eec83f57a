"""The families about the scheduler: its queue, its decisions, and the models that it decides by."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import Metric

from hfx_router.metrics.families import (
    Labels,
    counter_family,
    gauge_family,
    histogram_family,
)
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.labels import clean
from hfx_router.metrics.scheduling_recorder import SchedulingRecorder
from hfx_sgl.policy.latency.fit import LatencyFit
from hfx_sgl.policy.latency.models import LatencyModels


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingView:
    """What is looked up when somebody scrapes."""

    waiting: Callable[[], Iterable[tuple[str, bool]]]
    """The class label of each waiting request, and whether its first token is overdue."""
    models: Callable[[], Mapping[str, LatencyModels]]
    """The latency models, by the class of workers that they are about."""


NO_SCHEDULER = SchedulingView(waiting=tuple, models=dict)


def scheduling_families(recorder: SchedulingRecorder, view: SchedulingView) -> Iterator[Metric]:
    """Yield the families about the queue and the decisions."""
    yield from _queue_families(recorder, view)
    yield counter_family(
        "hfx_router_decisions_total",
        "Decisions of the scheduler, by why.",
        ("reason",),
        {(reason.value,): count for reason, count in recorder.decisions.items()},
    )
    yield histogram_family(
        "hfx_router_queue_wait_seconds",
        "From the arrival of a request until it was sent to its workers.",
        ("class",),
        _by_label(recorder.queue_wait_s),
    )
    yield histogram_family(
        "hfx_router_slack_seconds",
        "Time to spare before the deadline of the first token when a request was sent.",
        ("class",),
        _by_label(recorder.slack_s),
    )
    yield histogram_family(
        "hfx_router_prediction_error_seconds",
        "Actual minus predicted time of streams.",
        ("quantity",),
        {("ttft",): [recorder.ttft_error_s], ("tpot",): [recorder.tpot_error_s]},
    )
    yield histogram_family(
        "hfx_router_decision_duration_seconds",
        "How long a call to the scheduler took that asks for decisions; a sample of the calls.",
        (),
        {(): [recorder.decide_s]},
    )


def _queue_families(recorder: SchedulingRecorder, view: SchedulingView) -> Iterator[Metric]:
    num_waiting: Counter[str] = Counter(dict.fromkeys(recorder.queue_wait_s, 0))
    num_late = num_waiting.copy()
    for label, is_late in view.waiting():
        num_waiting[label] += 1
        num_late[label] += is_late
    for name, documentation, counts in (
        ("hfx_router_queue_requests", "Requests waiting to be sent.", num_waiting),
        (
            "hfx_router_late_requests",
            "Of them, those whose promised time to first token is over.",
            num_late,
        ),
    ):
        yield gauge_family(
            name, documentation, ("class",), {(clean(label),): n for label, n in counts.items()}
        )


def model_families(view: SchedulingView) -> Iterator[Metric]:
    """Yield the families about what the latency models have learnt; each that has learnt at all."""
    fits = {
        (clean(worker_class), stage): fit
        for worker_class, models in view.models().items()
        for stage, fit in _fits(models)
        if fit.num_observations
    }
    labels = ("worker_class", "stage")
    yield counter_family(
        "hfx_model_observations_total",
        "Observations that a latency model has learnt from.",
        labels,
        {key: fit.num_observations for key, fit in fits.items()},
    )
    yield counter_family(
        "hfx_model_drifts_total",
        "Times that a latency model found its workers changed.",
        labels,
        {key: fit.num_drifts for key, fit in fits.items()},
    )
    ratios: dict[Labels, float] = {}
    for key, fit in fits.items():
        ratios[*key, "mean"] = fit.residual.mean_ratio
        ratios[*key, "p90"] = fit.residual.p90_ratio
    yield gauge_family(
        "hfx_model_residual_ratio",
        "Actual over predicted time of steps, of about the last hundred observations.",
        (*labels, "statistic"),
        ratios,
    )


def _fits(models: LatencyModels) -> Iterator[tuple[str, LatencyFit]]:
    yield "prefill", models.prefill.fit
    yield "decode", models.decode.fit
    yield "transfer", models.transfer.fit


def _by_label(histograms: Mapping[str, Histogram]) -> dict[Labels, list[Histogram]]:
    return {(clean(label),): [histogram] for label, histogram in histograms.items()}
