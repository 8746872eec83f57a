"""What answers prove of prompts that nobody tells the end of."""

from support.scheduling import dispatched, plain_models, plain_scheduler, request

from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.policy.scheduler.time_bound import TimeBound
from hfx_sgl.types import Role

ONE = [("u0", Role.REGULAR)]
COUNTING = WorkerReport(
    num_prefill_tokens=0, prefill_busy_s=0.1, decode_moments=(), mean_context_tokens=0.0
)


def test_a_window_takes_what_was_sent_and_answered_within_it() -> None:
    bound = TimeBound()
    assert bound.answered((1.0, 5.0, 0.0, 0.0), 10.0, 10.01) is None
    assert bound.answered((1.0, 7.0, 0.0, 0.0), 9.0, 10.012) is None  # sent before it
    assert bound.answered((1.0, 6.0, 0.0, 0.0), 10.0, 10.013) is None
    assert bound.answered((1.0, 1.0, 0.0, 0.0), 10.011, 10.025) == (
        (3.0, 12.0, 0.0, 0.0),
        10.025 - 10.0,
    )


def test_a_window_ends_where_the_worker_may_have_been_idle() -> None:
    bound = TimeBound()
    assert bound.answered((1.0, 5.0, 0.0, 0.0), 10.0, 10.01) is None
    assert bound.answered((1.0, 2.0, 0.0, 0.0), 11.0, 11.001) == (
        (1.0, 5.0, 0.0, 0.0),
        10.01 - 10.0,
    )
    assert bound.answered((1.0, 3.0, 0.0, 0.0), 12.0, 12.5) == ((1.0, 2.0, 0.0, 0.0), 11.001 - 11.0)


def answer_at_once(scheduler: Scheduler, num_rounds: int, took_s: float) -> list[int]:
    """Four requests at a time, answered in one piece; return how many were sent each time."""
    sent = []
    for n in range(num_rounds):
        at_s = 100.0 + n
        names = [f"{n}-{i}" for i in range(4)]
        for name in names:
            scheduler.arrive(request(name, 200, at_s=at_s, is_prefill_told=False))
        sent.append(len(dispatched(scheduler, at_s)))
        for name in names:
            scheduler.over(name, at_s + took_s, 100)
        assert dispatched(scheduler, at_s + took_s) == []
    return sent


def test_nobody_waits_long_for_a_worker_that_answers_far_sooner_than_expected() -> None:
    models = plain_models()
    # A prompt is thought to take 200 ms, and a worker gets no more than 30 ms of them ahead.
    sent = answer_at_once(plain_scheduler(ONE, models=models), 30, took_s=0.004)
    assert sent[0] == 1
    assert sent[-1] == 4
    assert models.prefill.predict_s(200, 0) < 3 * 0.004
    assert models.decode.predict_s(1, 200) <= 3 * 0.004 / 99


def test_an_answer_that_takes_its_time_proves_nothing() -> None:
    models = plain_models()
    answer_at_once(plain_scheduler(ONE, models=models), 10, took_s=0.9)
    assert models.prefill.fit.num_observations == 0
    assert models.decode.fit.num_observations == 0


def test_a_worker_that_counts_for_itself_is_believed() -> None:
    models = plain_models()
    scheduler = plain_scheduler(ONE, models=models)
    scheduler.report("u0", COUNTING)
    answer_at_once(scheduler, 10, took_s=0.021)
    assert models.prefill.fit.num_observations == 0


def test_time_kept_for_a_prompt_is_given_back_when_its_answer_is_complete() -> None:
    scheduler = plain_scheduler(ONE)
    state = scheduler._prefillers.states["u0"]
    for name in ("a", "b"):
        scheduler.arrive(request(name, 5, at_s=1.0, is_prefill_told=False))
    assert len(dispatched(scheduler, 1.0)) == 2
    before_s = state.paced_until_s
    scheduler.over("a", 1.001, 100)
    assert 1.001 <= state.paced_until_s < before_s - 0.003
