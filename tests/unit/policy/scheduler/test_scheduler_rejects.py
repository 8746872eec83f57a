"""Requests whose promise cannot be kept, where these are sent away."""

import math

import pytest
from support.scheduling import UNIFIED, dispatched, plain_scheduler, request

from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import Action, Rejection
from hfx_sgl.policy.scheduler.scheduler import Scheduler

REJECT = SchedulerConfig(on_infeasible=OnInfeasible.REJECT)


def one_worker(config: SchedulerConfig = REJECT) -> Scheduler:
    return plain_scheduler(UNIFIED[:1], config)


def rejected(actions: list[Action]) -> list[Rejection]:
    return [action for action in actions if isinstance(action, Rejection)]


def test_what_even_an_idle_worker_cannot_keep_is_sent_away_for_ever() -> None:
    scheduler = one_worker()
    scheduler.arrive(request("hopeless", 1000, ttft_s=0.5))
    (rejection,) = rejected(scheduler.decide(0.0))
    assert rejection.request_id == "hopeless"
    assert rejection.retry_after_s == math.inf
    assert rejection.decision.reason is Reason.INFEASIBLE
    assert rejection.decision.worker_id is None
    assert rejection.decision.slack_s < 0
    with pytest.raises(KeyError):
        scheduler.over("hopeless", 1.0, None)


def test_what_waited_too_long_is_sent_away_when_it_is_too_late_and_not_before() -> None:
    scheduler = one_worker()
    scheduler.arrive(request("long", 2000))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("a", 300, ttft_s=1.0))
    assert scheduler.decide(0.0) == []
    wanted_s = scheduler.next_decision_s(0.0)
    assert 0.6 < wanted_s < 0.7
    (rejection,) = rejected(scheduler.decide(wanted_s))
    assert rejection.request_id == "a"


def test_it_is_told_when_one_like_it_would_be_on_time() -> None:
    scheduler = one_worker()
    scheduler.arrive(request("long", 5000))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("a", 300, ttft_s=1.0))
    assert scheduler.decide(0.0) == []
    now_s = scheduler.next_decision_s(0.0)
    (rejection,) = rejected(scheduler.decide(now_s))
    back_s = now_s + rejection.retry_after_s
    # The worker is free at 5 s.
    assert back_s + 1.0 == pytest.approx(5.0 + 0.3, abs=0.05)
    scheduler.arrive(request("again", 300, at_s=back_s + 0.01, ttft_s=1.0))
    assert rejected(scheduler.decide(back_s + 0.01)) == []
    scheduler.prefill_over("long", 5.0)
    (dispatch,) = dispatched(scheduler, 5.0)
    assert dispatch.is_on_time


def test_who_is_given_up_for_others_is_sent_away_before_its_time_is_over() -> None:
    sent_away_at_s = []
    for share in (0.25, 0.75):
        config = SchedulerConfig(on_infeasible=OnInfeasible.REJECT, give_up_share=share)
        scheduler = one_worker(config)
        scheduler.arrive(request("first", 3000))
        dispatched(scheduler, 0.0)
        scheduler.arrive(request("long", 2000, ttft_s=6.0))
        for n in range(5):
            scheduler.arrive(request(f"s{n}", 700, ttft_s=6.5))
        now_s = 0.0
        while not (gone := rejected(scheduler.decide(now_s))):
            now_s += 0.01
        assert [rejection.request_id for rejection in gone] == ["long"]
        sent_away_at_s.append(now_s)
    # It could be begun during 4 seconds.
    assert sent_away_at_s == pytest.approx([1.0, 3.0], abs=0.1)


def test_who_is_kept_in_between_is_not_sent_away() -> None:
    scheduler = one_worker()
    scheduler.arrive(request("first", 3000))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("long", 2000, ttft_s=6.0))
    for n in range(5):
        scheduler.arrive(request(f"s{n}", 700, ttft_s=6.5))
    assert scheduler.decide(0.0) == []
    for n in range(5):
        scheduler.over(f"s{n}", 1.0, None)
    for step in range(100, 290):
        assert scheduler.decide(step / 100) == []
    scheduler.prefill_over("first", 3.0)
    assert [dispatch.request_id for dispatch in dispatched(scheduler, 3.0)] == ["long"]


def test_without_that_setting_nobody_is_sent_away() -> None:
    scheduler = one_worker(SchedulerConfig())
    scheduler.arrive(request("hopeless", 1000, ttft_s=0.5))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert not dispatch.is_on_time
