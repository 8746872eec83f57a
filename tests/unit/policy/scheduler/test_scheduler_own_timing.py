"""What the scheduler learns from its own clock, where workers do not tell their times."""

import pytest
from support.scheduling import PAIRS, UNIFIED, dispatched, plain_models, request, worker

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.policy.scheduler.own_timing import OwnTiming
from hfx_sgl.policy.scheduler.scheduler import Scheduler

SILENT = WorkerReport(
    num_prefill_tokens=100, prefill_busy_s=0.0, decode_moments=(), mean_context_tokens=0.0
)
TELLING = WorkerReport(
    num_prefill_tokens=100,
    prefill_busy_s=0.1,
    decode_moments=(1.0, 1.0, 1e4, 1.0, 1e4, 1.0),
    mean_context_tokens=0.0,
)


def cluster(models: LatencyModels, *, is_pd: bool = False, times_workers: bool = True) -> Scheduler:
    scheduler = Scheduler(SchedulerConfig(times_workers=times_workers), models)
    for worker_id, role in PAIRS[1:3] if is_pd else UNIFIED[:1]:
        scheduler.add_worker(worker(worker_id, role))
    return scheduler


def compute(scheduler: Scheduler, num_prompts: int, s_per_token: float, from_s: float) -> None:
    """One prompt after the other, each sent when the one before is over."""
    for n in range(num_prompts):
        at_s = from_s + n
        num_tokens = 100 + 10 * n
        scheduler.arrive(request(f"{from_s}-{n}", num_tokens, at_s=at_s))
        assert len(dispatched(scheduler, at_s)) == 1
        ended_s = at_s + num_tokens * s_per_token
        scheduler.prefill_over(f"{from_s}-{n}", ended_s)
        scheduler.over(f"{from_s}-{n}", ended_s + 0.1, None)


def test_a_fast_worker_that_reports_no_times_is_found_out() -> None:
    models = plain_models()
    scheduler = cluster(models)
    scheduler.report("u0", SILENT)
    compute(scheduler, 2, 0.2e-3, 0.0)
    assert models.prefill.fit.num_observations == 0  # a report may still tell
    scheduler.report("u0", SILENT)
    compute(scheduler, 30, 0.2e-3, 2.0)
    assert models.prefill.predict_s(200, 0) == pytest.approx(0.04, rel=0.1)


def test_one_that_never_reports_is_timed_after_a_while() -> None:
    models = plain_models()
    scheduler = cluster(models)
    compute(scheduler, 5, 0.2e-3, 0.0)
    compute(scheduler, 30, 0.2e-3, 10.0)
    assert models.prefill.predict_s(200, 0) == pytest.approx(0.04, rel=0.1)


@pytest.mark.parametrize(
    ("report", "times_workers"), [(TELLING, True), (SILENT, False)], ids=["told", "switched off"]
)
def test_a_worker_is_not_timed(report: WorkerReport, times_workers: bool) -> None:
    models = plain_models()
    scheduler = cluster(models, times_workers=times_workers)
    scheduler.report("u0", report)
    compute(scheduler, 10, 0.2e-3, 0.0)
    scheduler.arrive(request("a", at_s=50.0))
    dispatched(scheduler, 50.0)
    scheduler.prefill_over("a", 50.1)
    scheduler.over("a", 52.0, 100, 1.9)
    assert models.prefill.fit.num_observations == 0
    assert models.decode.fit.num_observations == 0


def test_when_the_end_of_a_prefill_is_unknown_it_is_not_timed() -> None:
    models = plain_models()
    scheduler = cluster(models)
    scheduler.report("u0", SILENT)
    for n in range(10):
        scheduler.arrive(request(f"r{n}", at_s=float(n)))
        dispatched(scheduler, float(n))
        scheduler.over(f"r{n}", n + 0.9, 50)
    assert models.prefill.fit.num_observations == 0


@pytest.mark.parametrize("is_pd", [False, True])
def test_decode_steps_are_learnt_from_the_time_of_answers(is_pd: bool) -> None:
    models = plain_models()
    scheduler = cluster(models, is_pd=is_pd)
    for worker_id in ("u0", "p1", "d0"):
        scheduler.report(worker_id, SILENT)
    for n in range(30):
        scheduler.arrive(request(f"r{n}", at_s=5.0 * n))
        dispatched(scheduler, 5.0 * n)
        scheduler.prefill_over(f"r{n}", 5.0 * n + 0.1)
        # 100 tokens after the first, 30 ms each.
        scheduler.over(f"r{n}", 5.0 * n + 3.1, 101, 3.0)
    assert models.decode.predict_s(1, 150) == pytest.approx(0.03, rel=0.1)


def test_the_prefills_of_others_are_no_decode_steps() -> None:
    models = plain_models()
    scheduler = cluster(models)
    scheduler.report("u0", SILENT)
    scheduler.arrive(request("long", 10))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("long", 0.01)
    for n in range(4):
        scheduler.arrive(request(f"r{n}", 500, at_s=1.0 + n))
        dispatched(scheduler, 1.0 + n)
        scheduler.prefill_over(f"r{n}", 1.5 + n)
        scheduler.over(f"r{n}", 1.6 + n, None)
    before = models.decode.fit.num_observations
    # 2 of 4 seconds went to prefills: the steps took 20 ms each.
    scheduler.over("long", 4.01, 101, 4.0)
    assert models.decode.fit.num_observations == before + 1
    assert models.decode.predict_s(1, 150) == pytest.approx(0.02, rel=0.15)


def test_prompts_that_follow_each_other_are_timed_together() -> None:
    timing = OwnTiming()
    one = PrefillModel.features(100, 0)
    assert timing.computed(one, 10.0, 10.1) is None
    assert timing.computed(one, 10.05, 10.2) is None
    features, duration_s = timing.computed(one, 10.1, 10.3) or ((), 0.0)
    assert features == tuple(3 * value for value in one)
    assert duration_s == pytest.approx(0.3)


def test_an_idle_worker_ends_a_window() -> None:
    timing = OwnTiming()
    one = PrefillModel.features(100, 0)
    assert timing.computed(one, 10.0, 10.1) is None
    features, duration_s = timing.computed(one, 11.0, 11.05) or ((), 0.0)
    assert features == one
    assert duration_s == pytest.approx(0.1)
    features, duration_s = timing.computed(one, 12.0, 12.2) or ((), 0.0)
    assert duration_s == pytest.approx(0.05)


def test_what_was_interrupted_is_not_timed() -> None:
    timing = OwnTiming()
    one = PrefillModel.features(100, 0)
    timing.computed(one, 10.0, 10.2)
    timing.interrupted(20.0)
    assert timing.computed(one, 12.0, 21.0) == (one, 1.0)
