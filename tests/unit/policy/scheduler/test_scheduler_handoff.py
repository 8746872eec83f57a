"""What the way from a prefill worker to the first token means for the scheduler's accounts."""

from collections.abc import Sequence

import pytest
from support.scheduling import (
    LOOKAHEAD_S,
    MARGIN_S,
    PAIRS,
    UNIFIED,
    dispatched,
    plain_models,
    plain_scheduler,
    request,
)

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

Workers = Sequence[tuple[str, Role]]
ONE_PAIR = PAIRS[1:3]
BYTES = 12_500_000


def slack_s(scheduler: Scheduler, at_s: float, num_prompt_tokens: int = 100) -> float:
    """Return what is left of a promise of ten seconds when everybody is idle."""
    name = f"probe{at_s}"
    scheduler.arrive(request(name, num_prompt_tokens, at_s=at_s, ttft_s=10.0))
    (dispatch,) = dispatched(scheduler, at_s)
    scheduler.over(name, at_s, None)
    return dispatch.decision.slack_s


def answer(scheduler: Scheduler, n: int, *, join_s: float) -> None:
    """One request whose first token comes so long after its prefill worker's answer."""
    at_s = 10.0 * n
    scheduler.arrive(request(f"r{n}", 100, at_s=at_s))
    dispatched(scheduler, at_s)
    scheduler.prefill_over(f"r{n}", at_s + 0.1)
    scheduler.first_token(f"r{n}", at_s + 0.1 + join_s)
    scheduler.over(f"r{n}", at_s + 5.0, None)


def transfer(num_bytes: int, duration_s: float) -> WorkerReport:
    return WorkerReport(
        num_prefill_tokens=0,
        prefill_busy_s=0.0,
        decode_moments=(),
        mean_context_tokens=0.0,
        last_transfer_bytes=num_bytes,
        last_transfer_s=duration_s,
    )


@pytest.mark.parametrize(
    ("workers", "transfer_s", "lag_s"),
    [(ONE_PAIR, 0.08, 0.08), (ONE_PAIR, 0.02, 0.02), (UNIFIED[:1], 0.08, 0.0)],
)
def test_a_worker_began_the_next_prompt_before_its_answer_came(
    workers: Workers, transfer_s: float, lag_s: float
) -> None:
    scheduler = plain_scheduler(workers, models=plain_models(transfer_s))
    for name in "abc":
        scheduler.arrive(request(name, 200))
    for at_s, expected in ((0.0, "a"), (0.19, "b")):
        (dispatch,) = dispatched(scheduler, at_s)
        assert dispatch.request_id == expected
    scheduler.prefill_over("a", 0.3)
    # The prompt of "b" was begun when that of "a" was computed.
    free_at_s = 0.3 - lag_s + 0.2
    assert scheduler.next_decision_s(0.3) > 0.3
    assert dispatched(scheduler, free_at_s - LOOKAHEAD_S - 0.001) == []
    (dispatch,) = dispatched(scheduler, free_at_s - LOOKAHEAD_S + 1e-6)
    assert dispatch.request_id == "c"
    assert dispatch.decision.candidates[0].begins_in_s == pytest.approx(LOOKAHEAD_S, abs=1e-5)


def test_the_hand_off_is_kept_free_before_the_deadline() -> None:
    unified = slack_s(plain_scheduler(UNIFIED, models=plain_models(0.08)), 0.0)
    pairs = slack_s(plain_scheduler(PAIRS, models=plain_models(0.08)), 0.0)
    assert unified == pytest.approx(10.0 - 0.1 - MARGIN_S)
    assert pairs < unified - 0.08


def test_the_hand_off_counts_to_the_predicted_time_to_first_token() -> None:
    predicted_s = {}
    for workers in (UNIFIED, PAIRS):
        scheduler = plain_scheduler(workers, models=plain_models(0.08))
        scheduler.arrive(request("a", 100, ttft_s=10.0))
        (dispatch,) = dispatched(scheduler, 0.0)
        predicted_s[workers] = dispatch.decision.predicted_ttft_s
        # Time to spare, and the margin, are what is left of the promise.
        left_s = predicted_s[workers] + dispatch.decision.slack_s + MARGIN_S
        assert left_s == pytest.approx(10.0)
    assert predicted_s[UNIFIED] == pytest.approx(0.1)
    assert 0.18 < predicted_s[PAIRS] < 0.2


def test_the_margin_grows_with_the_learnt_way_to_the_first_token() -> None:
    scheduler = plain_scheduler(PAIRS)
    before_s = slack_s(scheduler, 0.0)
    for n in range(1, 300):
        answer(scheduler, n, join_s=0.2)
    learnt_s = before_s - slack_s(scheduler, 5000.0)
    assert 0.17 < learnt_s < 0.2
    # A promise that this leaves no time for is not said to be kept.
    ttft_s = 0.1 + MARGIN_S + 0.15
    scheduler.arrive(request("tight", 100, at_s=6000.0, ttft_s=ttft_s))
    (dispatch,) = dispatched(scheduler, 6000.0)
    assert not dispatch.is_on_time
    fresh = plain_scheduler(PAIRS)
    fresh.arrive(request("tight", 100, ttft_s=ttft_s))
    (dispatch,) = dispatched(fresh, 0.0)
    assert dispatch.is_on_time


def test_reported_transfers_teach_the_lag() -> None:
    scheduler = plain_scheduler(ONE_PAIR)
    before_s = slack_s(scheduler, 0.0)
    for n in range(1, 60):
        answer(scheduler, n, join_s=0.015)
        scheduler.report("p1", transfer(BYTES + n, 0.3 + n * 1e-6))
    assert before_s - slack_s(scheduler, 5000.0) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    ("reports", "num_learnt"),
    [
        ([(BYTES, 0.05)], 1),
        ([(BYTES, 0.05), (BYTES, 0.05), (BYTES, 0.05)], 1),
        ([(BYTES, 0.05), (BYTES, 0.06)], 2),
        ([(0, 0.0), (0, 0.0)], 0),
    ],
)
def test_a_transfer_counts_once_though_it_is_told_until_the_next(
    reports: list[tuple[int, float]], num_learnt: int
) -> None:
    models = plain_models()
    scheduler = plain_scheduler(PAIRS[1:3], models=models)
    answer(scheduler, 0, join_s=0.01)
    for num_bytes, duration_s in reports:
        scheduler.report("p1", transfer(num_bytes, duration_s))
    assert models.transfer.fit.num_observations == num_learnt


def test_a_transfer_of_no_known_prompt_teaches_nothing() -> None:
    models = plain_models()
    scheduler = plain_scheduler(ONE_PAIR, models=models)
    scheduler.report("p1", transfer(BYTES, 0.05))
    assert models.transfer.fit.num_observations == 0


def test_a_first_token_without_an_answer_before_it_teaches_nothing() -> None:
    told, silent = plain_scheduler(PAIRS), plain_scheduler(PAIRS)
    for scheduler in (told, silent):
        scheduler.arrive(request("a", 100))
        dispatched(scheduler, 0.0)
    told.first_token("a", 3.0)
    for scheduler in (told, silent):
        scheduler.over("a", 5.0, None)
    assert slack_s(told, 10.0) == slack_s(silent, 10.0)


def test_the_first_token_of_an_unknown_request_is_an_error() -> None:
    scheduler = Scheduler(SchedulerConfig(), plain_models())
    scheduler.arrive(request("waits"))
    for request_id in ("nobody", "waits"):
        with pytest.raises(KeyError, match=request_id):
            scheduler.first_token(request_id, 0.0)
