"""End-to-end promises, promises of those that run, and what a decision says of itself."""

import math

import pytest
from support.scheduling import (
    LOOKAHEAD_S,
    PAIRS,
    UNIFIED,
    dispatched,
    plain_models,
    plain_scheduler,
    request,
    worker,
)

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.scheduler import Scheduler

STEP_S = 0.011
"""A decode step of plain models with one request."""


@pytest.mark.parametrize(("e2e_s", "is_on_time"), [(1.0, False), (1.4, True)])
def test_an_end_to_end_promise_leaves_time_to_decode(e2e_s: float, is_on_time: bool) -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("a", 200, e2e_s=e2e_s, max_output_tokens=100))
    # 0.2 s of prefill and 99 steps.
    (dispatch,) = dispatched(scheduler, 0.0)
    assert dispatch.is_on_time is is_on_time


def test_the_tighter_of_two_promises_counts() -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("busy", 1000))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("by ttft", 10, ttft_s=3.0, e2e_s=60.0))
    scheduler.arrive(request("by e2e", 10, ttft_s=9.0, e2e_s=3.0))
    scheduler.prefill_over("busy", 1.0)
    sent = dispatched(scheduler, 1.0)
    assert [dispatch.request_id for dispatch in sent] == ["by e2e", "by ttft"]


def test_an_end_to_end_promise_paces_prefills_like_a_tpot() -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("running", 10, e2e_s=2.03, max_output_tokens=101))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("running", 0.01)
    state = scheduler._prefillers.states["u0"]
    assert state.tightest_tpot_s == pytest.approx(0.02, rel=0.02)
    scheduler.over("running", 1.0, 101)
    assert state.tightest_tpot_s == math.inf


def test_the_worker_whose_promises_would_break_is_passed_over() -> None:
    scheduler = plain_scheduler(PAIRS)
    # Two steps of 12 ms are the most that 0.9 of 13.4 ms have room for.
    scheduler.arrive(request("tight", 10, tpot_s=0.0134))
    (first,) = dispatched(scheduler, 0.0)
    scheduler.prefill_over("tight", 0.01)
    where = [first.worker_id]
    for n in range(4):
        scheduler.arrive(request(f"r{n}", 10, at_s=1.0 + n))
        where += [dispatch.worker_id for dispatch in dispatched(scheduler, 1.0 + n)]
        scheduler.prefill_over(f"r{n}", 1.5 + n)
    assert where == ["d0", "d1", "d0", "d1", "d1"]


@pytest.mark.parametrize("guards_tpot", [True, False])
def test_it_waits_rather_than_break_a_promise_as_long_as_it_can(guards_tpot: bool) -> None:
    scheduler = plain_scheduler(PAIRS[1:3], SchedulerConfig(guards_tpot=guards_tpot))
    scheduler.arrive(request("tight", 10, tpot_s=0.0125))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("tight", 0.01)
    scheduler.arrive(request("a", 100, at_s=1.0, ttft_s=2.0))
    assert len(dispatched(scheduler, 1.0)) == (not guards_tpot)
    if guards_tpot:
        until_s = scheduler.next_decision_s(1.0)
        assert 3.0 - 0.1 - LOOKAHEAD_S - 0.1 < until_s < 3.0 - 0.1
        assert len(dispatched(scheduler, until_s)) == 1


def test_it_goes_at_once_when_those_have_left() -> None:
    scheduler = plain_scheduler(PAIRS[1:3])
    scheduler.arrive(request("tight", 10, tpot_s=0.0125))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("tight", 0.01)
    scheduler.arrive(request("a", 100, at_s=1.0, ttft_s=2.0))
    assert dispatched(scheduler, 1.0) == []
    scheduler.over("tight", 1.2, 20)
    assert len(dispatched(scheduler, 1.2)) == 1


def test_a_promise_that_is_broken_anyway_holds_nobody_back() -> None:
    scheduler = plain_scheduler(PAIRS[1:3])
    scheduler.arrive(request("impossible", 10, tpot_s=0.005))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("impossible", 0.01)
    scheduler.arrive(request("a", 100, at_s=1.0, ttft_s=2.0))
    assert len(dispatched(scheduler, 1.0)) == 1


@pytest.mark.parametrize(("caution", "is_on_time"), [(0.0, True), (1.0, False)])
def test_what_slow_prefills_take_longer_may_be_kept_in_reserve(
    caution: float, is_on_time: bool
) -> None:
    models = plain_models()
    scheduler = Scheduler(SchedulerConfig(prefill_caution=caution), models)
    scheduler.add_worker(worker("u0"))
    for n in range(200):
        # One of five takes a quarter longer than the others.
        models.prefill.observe(200, 0, 0.25 if n % 5 == 0 else 0.2)
    scheduler.arrive(request("short", 10, ttft_s=3.0))
    scheduler.arrive(request("a", 1000, ttft_s=1.11))
    sent = [dispatch.request_id for dispatch in dispatched(scheduler, 0.0)]
    assert sent[0] == ("a" if is_on_time else "short")


def test_a_decision_says_what_was_known() -> None:
    scheduler = plain_scheduler(PAIRS)
    scheduler.arrive(request("busy", 1000, ttft_s=0.1))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("a", 200, at_s=1.0, ttft_s=2.0, max_output_tokens=50))
    scheduler.arrive(request("b", 200, at_s=1.0, ttft_s=4.0))
    sent = dispatched(scheduler, 1.1)
    decision = sent[0].decision
    assert (decision.request_id, decision.class_name) == ("a", "chat")
    assert (decision.at_s, decision.reason) == (1.1, Reason.ON_TIME)
    assert decision.waited_s == pytest.approx(0.1)
    assert (decision.worker_id, decision.prefill_worker_id) == ("d1", "p1")
    assert 0.3 < decision.predicted_ttft_s < 0.33  # with the hand-off
    assert 1.5 < decision.slack_s < 1.7
    assert decision.predicted_tpot_s == pytest.approx(STEP_S)
    assert (decision.num_prompt_tokens, decision.expected_output_tokens) == (200, 50)
    assert (decision.num_waiting, decision.num_late) == (1, 0)
    chosen = decision.candidates[0]
    assert (chosen.worker_id, chosen.num_hit_tokens) == ("p1", 0)
    assert (chosen.begins_in_s, chosen.step_s, chosen.has_room) == (0.0, None, True)
    assert chosen.prefill_s == pytest.approx(0.2)


def test_the_home_of_a_prefix_is_among_the_candidates() -> None:
    scheduler = plain_scheduler(UNIFIED)
    digests = list(range(50))
    scheduler.arrive(request("before", 510, block_digests=digests))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 0.5)
    scheduler.arrive(request("home", 1100, at_s=1.0, block_digests=digests))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert dispatch.decision.reason is Reason.PREFIX_HOME
    # It would be late there.
    scheduler.arrive(request("away", 510, at_s=1.0, ttft_s=0.56, block_digests=digests))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert dispatch.worker_id == "u1"
    assert [candidate.worker_id for candidate in dispatch.decision.candidates] == ["u1", "u0"]
    assert [candidate.num_hit_tokens for candidate in dispatch.decision.candidates] == [0, 500]


def test_priorities_follow_the_deadlines_and_the_late_come_last() -> None:
    scheduler = plain_scheduler(PAIRS)
    promises = {"loose": 9.0, "tight": 2.0, "none": math.inf, "late": 0.001}
    priorities = {}
    for n, (name, ttft_s) in enumerate(promises.items()):
        scheduler.arrive(request(name, 10, at_s=float(n), ttft_s=ttft_s - n if n < 2 else ttft_s))
        (dispatch,) = dispatched(scheduler, float(n))
        scheduler.prefill_over(name, n + 0.5)
        priorities[name] = dispatch.priority
    assert sorted(priorities, key=priorities.__getitem__, reverse=True) == [
        "tight", "loose", "none", "late",
    ]  # fmt: skip
