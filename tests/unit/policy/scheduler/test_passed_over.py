"""A prompt that its prefill worker passes over for long is taken back and sent again."""

import math

from support.scheduling import PAIRS, UNIFIED, dispatched, plain_scheduler, request

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import Dispatch, Recall
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

PATIENCE_S = SchedulerConfig().passed_over_s
ONE_PAIR = (("p0", Role.PREFILL), ("d0", Role.DECODE))


def pass_over(scheduler: Scheduler, name: str, at_s: float) -> None:
    """`p0` gets a prompt, then another one, and computes that."""
    scheduler.set_usable("p1", False)
    for offset_s, request_id in ((0.0, name), (0.1, f"after {name}")):
        scheduler.arrive(request(request_id, 20, at_s=at_s + offset_s))
        (dispatch,) = dispatched(scheduler, at_s + offset_s)
        assert dispatch.request_id == request_id
    scheduler.prefill_over(f"after {name}", at_s + 0.2)
    scheduler.set_usable("p1", True)


def next_recall(scheduler: Scheduler, now_s: float) -> tuple[float, Recall]:
    """Wait for the scheduler to take something back, as its driver would."""
    while True:
        now_s = scheduler.next_decision_s(now_s)
        assert now_s < math.inf
        if actions := scheduler.decide(now_s):
            (action,) = actions
            assert isinstance(action, Recall)
            return now_s, action


def test_it_goes_to_another_worker() -> None:
    scheduler = plain_scheduler(PAIRS)
    pass_over(scheduler, "lost", 0.0)
    assert scheduler.decide(0.2) == []
    recalled_at_s, recall = next_recall(scheduler, 0.2)
    assert recalled_at_s == 0.2 + PATIENCE_S
    assert recall.request_id == "lost"
    assert recall.decision.reason is Reason.PASSED_OVER
    again_s = scheduler.next_decision_s(recalled_at_s)
    (dispatch,) = dispatched(scheduler, again_s)
    assert (dispatch.request_id, dispatch.prefill_worker_id) == ("lost", "p1")
    scheduler.prefill_over("lost", again_s + 0.1)
    for name in ("lost", "after lost"):
        scheduler.over(name, again_s + 1.0, 5)
    scheduler.decide(again_s + 1.0)
    assert scheduler.next_decision_s(again_s + 1.0) == math.inf


def test_with_one_worker_it_goes_there_again_so_often_and_no_more() -> None:
    scheduler = plain_scheduler(ONE_PAIR, SchedulerConfig(max_recalls=2))
    pass_over(scheduler, "lost", 0.0)
    now_s = 0.2
    for number in range(2):
        now_s, recall = next_recall(scheduler, now_s)
        assert recall.request_id == "lost"
        now_s = scheduler.next_decision_s(now_s)
        (dispatch,) = dispatched(scheduler, now_s)
        assert dispatch.prefill_worker_id == "p0"
        scheduler.arrive(request(f"n{number}", 20, at_s=now_s + 0.1))
        dispatched(scheduler, now_s + 0.1)
        now_s += 0.2
        scheduler.prefill_over(f"n{number}", now_s)
        scheduler.decide(now_s)
    assert scheduler.decide(now_s + 1000.0) == []
    assert scheduler.next_decision_s(now_s + 1000.0) == math.inf


def test_what_is_computed_in_time_stays() -> None:
    scheduler = plain_scheduler(PAIRS)
    pass_over(scheduler, "slow", 0.0)
    scheduler.prefill_over("slow", 5.0)
    scheduler.decide(5.0)
    assert scheduler.next_decision_s(5.0) == math.inf
    assert scheduler.decide(1000.0) == []


def test_what_is_sent_at_the_same_time_is_not_passed_over() -> None:
    scheduler = plain_scheduler(ONE_PAIR)
    for name in "ab":
        scheduler.arrive(request(name, 5))
    assert [dispatch.request_id for dispatch in dispatched(scheduler, 0.0)] == ["a", "b"]
    scheduler.prefill_over("b", 0.1)
    assert scheduler.decide(1000.0) == []


def test_a_unified_worker_may_take_its_time() -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("slow", 20))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("fast", 5, at_s=0.1))
    dispatched(scheduler, 0.1)
    scheduler.prefill_over("fast", 0.2)
    assert scheduler.decide(1000.0) == []


def test_its_worker_is_not_taken_for_stuck_any_more() -> None:
    scheduler = plain_scheduler(ONE_PAIR, SchedulerConfig(passed_over_s=60.0))
    pass_over(scheduler, "lost", 0.0)
    scheduler.arrive(request("next", 20, at_s=50.0))
    assert dispatched(scheduler, 50.0) == [], "the first prompt there does not come back"
    recall, dispatch = scheduler.decide(scheduler.next_decision_s(50.0))
    assert (recall.request_id, recall.decision.reason) == ("lost", Reason.PASSED_OVER)
    assert isinstance(dispatch, Dispatch)
    assert (dispatch.request_id, dispatch.prefill_worker_id) == ("next", "p0")


def test_a_worker_that_has_left_is_not_asked_again() -> None:
    scheduler = plain_scheduler(PAIRS)
    pass_over(scheduler, "lost", 0.0)
    scheduler.remove_worker("p0")
    scheduler.over("lost", 1.0, None)
    assert scheduler.decide(1000.0) == []
    assert scheduler.next_decision_s(1000.0) == math.inf
