"""What the scheduler learns from what workers report."""

import pytest
from support.scheduling import dispatched, plain_models, request, worker

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler


def report(
    num_prefill_tokens: int = 0,
    prefill_busy_s: float = 0.0,
    decode_moments: tuple[float, ...] = (),
    mean_context_tokens: float = 0.0,
) -> WorkerReport:
    return WorkerReport(
        num_prefill_tokens=num_prefill_tokens,
        prefill_busy_s=prefill_busy_s,
        decode_moments=decode_moments,
        mean_context_tokens=mean_context_tokens,
    )


def one_worker(models: LatencyModels) -> Scheduler:
    scheduler = Scheduler(SchedulerConfig(), models)
    scheduler.add_worker(worker("w"))
    return scheduler


def compute(scheduler: Scheduler, n: int, num_tokens: int = 100) -> None:
    """One prompt, from arrival to the end."""
    scheduler.arrive(request(f"r{n}", num_tokens, at_s=float(n)))
    (dispatch,) = dispatched(scheduler, float(n))
    assert dispatch.request_id == f"r{n}"
    scheduler.prefill_over(f"r{n}", n + 0.5)
    scheduler.over(f"r{n}", n + 0.7, 5)


def test_a_slower_device_is_found_out() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    scheduler.report("w", report())
    num_tokens = 0
    for n in range(20):
        compute(scheduler, n, 100 + 10 * n)
        num_tokens += 100 + 10 * n
        scheduler.report("w", report(num_tokens, num_tokens * 3e-3))
    assert models.prefill.predict_s(200, 0) == pytest.approx(0.6, rel=0.05)
    assert models.prefill.fit.num_observations == 20


def test_what_the_cache_held_is_taken_from_the_report() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    scheduler.report("w", report())
    for n in range(12):
        compute(scheduler, n, 100)
        # Half of each prompt was cached after all: 50 tokens in 50 ms.
        scheduler.report("w", report(50 * (n + 1), 0.05 * (n + 1)))
    assert models.prefill.fit.num_observations == 12
    assert models.prefill.predict_s(100, 0) == pytest.approx(0.1, rel=0.02)


def test_prompts_before_the_first_report_are_not_counted_to_the_second() -> None:
    # What a step costs at all shows whether one prompt was counted, or four.
    models = LatencyModels(LatencyPrior(prefill_s=0.1, prefill_s_per_token_below_knee=1e-3))
    before_s = models.prefill.predict_s(100, 0)
    scheduler = one_worker(models)
    for n in range(3):
        compute(scheduler, n)
    scheduler.report("w", report(300, 3 * before_s))
    compute(scheduler, 3)
    scheduler.report("w", report(400, 4 * before_s))
    assert models.prefill.fit.num_observations == 1
    assert models.prefill.predict_s(100, 0) == pytest.approx(before_s)


def test_a_worker_that_started_anew_teaches_nothing_wrong() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    scheduler.report("w", report(1000, 1.0))
    compute(scheduler, 0)
    scheduler.report("w", report(100, 0.1))
    assert models.prefill.fit.num_observations == 0
    for n in range(1, 9):
        compute(scheduler, n)
        scheduler.report("w", report(100 * (n + 1), 0.1 * (n + 1)))
    assert models.prefill.fit.num_observations == 8
    assert models.prefill.predict_s(100, 0) == pytest.approx(0.1, rel=0.02)


def test_a_complete_answer_shows_that_its_prompt_was_computed() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    scheduler.report("w", report())
    for n in range(2):
        scheduler.arrive(request(f"r{n}", 100, at_s=10.0 * n))
        dispatched(scheduler, 10.0 * n)
        # The second client leaves: nobody knows whether its prompt was computed.
        scheduler.over(f"r{n}", 10.0 * n + 1.0, 7 if n == 0 else None)
        scheduler.report("w", report(100 * (n + 1), 0.1 * (n + 1)))
    assert models.prefill.fit.num_observations == 1


def test_idle_workers_teach_nothing() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    for _ in range(5):
        scheduler.report("w", report(1000, 1.0))
    assert models.prefill.fit.num_observations == 0
    assert models.decode.fit.num_observations == 0


def test_decode_steps_are_learnt() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    before_s = models.decode.predict_s(4, 4000)
    for n in range(20):
        steps = 100.0 * n
        moments = (steps, 4 * steps, 30_000.0 * steps, 16 * steps, 120_000.0 * steps, 4 * steps)
        scheduler.report("w", report(decode_moments=moments, mean_context_tokens=1000.0))
    assert before_s == pytest.approx(0.014)
    assert models.decode.predict_s(4, 4000) == pytest.approx(0.03, rel=0.05)


def test_an_unknown_worker_is_not_listened_to() -> None:
    models = plain_models()
    scheduler = one_worker(models)
    for n in range(3):
        scheduler.report("nobody", report(100 * n, float(n), (n, n, n, n, n, n), 10.0))
    assert models.decode.fit.num_observations == 0
