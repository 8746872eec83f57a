from typing import Any

import pytest
from hfx_router.metrics.scheduling_families import SchedulingView
from hfx_router.metrics.scheduling_recorder import (
    DECIDE_BOUNDS_S,
    ERROR_BOUNDS_S,
    QUEUE_WAIT_BOUNDS_S,
    SLACK_BOUNDS_S,
)
from support.scheduling import plain_models

from hfx_sgl.policy.scheduler.decision import Reason


def with_view(bench: Any, **view: Any) -> Any:
    given = {"waiting": tuple, "models": dict, **view}
    return type(bench)(recorder=bench.recorder, scheduling=SchedulingView(**given))


def test_who_waits_is_counted_by_class(bench: Any) -> None:
    waiting = [("chat", False), ("chat", True), ("batch", True)]
    bench = with_view(bench, waiting=lambda: waiting)
    assert bench.value("hfx_router_queue_requests", **{"class": "chat"}) == 2
    assert bench.value("hfx_router_late_requests", **{"class": "chat"}) == 1
    assert bench.value("hfx_router_late_requests", **{"class": "batch"}) == 1


def test_a_class_that_was_served_is_shown_as_waiting_no_more(bench: Any) -> None:
    bench.recorder.scheduling.sent("chat", 0.1, None)
    assert bench.value("hfx_router_queue_requests", **{"class": "chat"}) == 0
    assert bench.value("hfx_router_late_requests", **{"class": "chat"}) == 0


def test_decisions_by_reason_and_times_by_class(bench: Any) -> None:
    scheduling = bench.recorder.scheduling
    scheduling.decisions[Reason.PREFIX_HOME] += 2
    scheduling.sent("chat", 0.04, -0.2)
    scheduling.sent("batch", 3.0, None)
    chat = {"class": "chat"}
    assert bench.value("hfx_router_decisions_total", reason="prefix_home") == 2
    assert bench.value("hfx_router_queue_wait_seconds_sum", **chat) == 0.04
    assert bench.value("hfx_router_queue_wait_seconds_count", **{"class": "batch"}) == 1
    assert bench.value("hfx_router_slack_seconds_bucket", **chat, le="0.0") == 1
    assert bench.value("hfx_router_slack_seconds_bucket", **chat, le="-0.25") == 0
    assert bench.label_sets("hfx_router_slack_seconds") == {(("class", "chat"),)}


def test_predictions_that_were_too_low_are_above_zero(bench: Any) -> None:
    bench.recorder.scheduling.ttft_error_s.observe(0.02)
    bench.recorder.scheduling.tpot_error_s.observe(-0.002)
    name = "hfx_router_prediction_error_seconds_bucket"
    assert bench.value(name, quantity="ttft", le="0.0") == 0
    assert bench.value(name, quantity="ttft", le="0.025") == 1
    assert bench.value(name, quantity="tpot", le="0.0") == 1
    assert bench.value(name, quantity="tpot", le="-0.0025") == 0


def test_how_long_decisions_take(bench: Any) -> None:
    bench.recorder.scheduling.decide_s.observe(30e-6)
    name = "hfx_router_decision_duration_seconds_bucket"
    assert bench.value(name, le="5e-05") == 1
    assert bench.value(name, le="2.5e-05") == 0


@pytest.mark.parametrize(
    ("bounds", "first", "last"),
    [
        (QUEUE_WAIT_BOUNDS_S, 0.001, 80),
        (SLACK_BOUNDS_S, -10, 30),
        (ERROR_BOUNDS_S, -10, 10),
        (DECIDE_BOUNDS_S, 5e-6, 1e-2),
    ],
)
def test_bounds_ascend(bounds: tuple[float, ...], first: float, last: float) -> None:
    assert list(bounds) == sorted(set(bounds))
    assert (bounds[0], bounds[-1]) == (first, last)


def test_signed_bounds_part_at_zero() -> None:
    assert 0 in SLACK_BOUNDS_S
    assert 0 in ERROR_BOUNDS_S


def test_models_are_shown_once_they_have_learnt(bench: Any) -> None:
    models = plain_models()
    bench = with_view(bench, models=lambda: {"all": models})
    assert bench.families()["hfx_model_observations_total"].samples == []
    for _ in range(20):
        models.decode.observe(4, 4000, 0.05)
    fit = models.decode.fit
    labels = {"worker_class": "all", "stage": "decode"}
    assert bench.value("hfx_model_observations_total", **labels) == fit.num_observations == 20
    assert bench.value("hfx_model_drifts_total", **labels) == fit.num_drifts
    ratio = "hfx_model_residual_ratio"
    assert bench.value(ratio, **labels, statistic="p90") == fit.residual.p90_ratio != 1.5
    assert bench.value(ratio, **labels, statistic="mean") == fit.residual.mean_ratio
    assert bench.value("hfx_model_observations_total", worker_class="all", stage="prefill") is None
