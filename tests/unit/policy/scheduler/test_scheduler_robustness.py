"""Workers that hang, are not wanted or are full, and requests that nobody has room for."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import PAIRS, UNIFIED, dispatched, plain_scheduler, request

from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import Action, Recall
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

EITHER = pytest.mark.parametrize("workers", [UNIFIED, PAIRS])
ONE_OF_EITHER = pytest.mark.parametrize("workers", [UNIFIED[:1], PAIRS[1:3]])
Workers = Sequence[tuple[str, Role]]


def placed(actions: Sequence[Action]) -> dict[str, str]:
    return {action.request_id: action.decision.prefill_worker_id or "nowhere" for action in actions}


def hang_with_a_pile(scheduler: Scheduler) -> None:
    """The first worker has begun one prompt and never ends it; short ones wait there behind it."""
    scheduler.set_usable("u1", False)
    scheduler.set_usable("p1", False)
    scheduler.arrive(request("begun", 20))
    for name in "ab":
        scheduler.arrive(request(name, 5))
    sent = [dispatch for step in range(5) for dispatch in dispatched(scheduler, step / 100)]
    assert [dispatch.request_id for dispatch in sent] == ["begun", "a", "b"]
    scheduler.set_usable("u1", True)
    scheduler.set_usable("p1", True)


@EITHER
def test_what_waits_on_a_worker_that_hangs_is_taken_back_and_goes_elsewhere(
    workers: Workers,
) -> None:
    scheduler = plain_scheduler(workers)
    hang_with_a_pile(scheduler)
    assert dispatched(scheduler, 1.0) == []
    overdue_s = scheduler.next_decision_s(1.0)
    assert 1.0 < overdue_s < 20.0
    recalls = scheduler.decide(overdue_s)
    assert [(type(action), action.request_id) for action in recalls] == [
        (Recall, "a"),
        (Recall, "b"),
    ]
    assert {action.decision.reason for action in recalls} == {Reason.STUCK}
    again_s = scheduler.next_decision_s(overdue_s)
    assert overdue_s < again_s < overdue_s + 0.01
    where = placed(scheduler.decide(again_s))
    assert set(where) == {"a", "b"}
    assert set(where.values()) <= {"u1", "p1"}
    # Those that went on end like others do.
    for name in ("begun", "a", "b"):
        scheduler.over(name, again_s + 1.0, 5)


@ONE_OF_EITHER
def test_a_worker_that_hangs_gets_nothing_until_something_comes_back(workers: Workers) -> None:
    scheduler = plain_scheduler(workers)
    scheduler.arrive(request("begun", 20))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("next", 20, at_s=50.0))
    assert dispatched(scheduler, 50.0) == []
    # Its driver gives it up: one prompt is risked, and no more until that is computed.
    scheduler.over("begun", 60.0, None)
    scheduler.arrive(request("after", 5, at_s=60.0))
    (dispatch,) = dispatched(scheduler, 60.0)
    assert dispatched(scheduler, 60.5) == []
    scheduler.prefill_over(dispatch.request_id, 60.6)
    assert len(dispatched(scheduler, 60.6)) == 1


@ONE_OF_EITHER
def test_nothing_piles_up_behind_a_prompt_that_does_not_come_back(workers: Workers) -> None:
    scheduler = plain_scheduler(workers, SchedulerConfig(outstanding_s=0.1, lookahead_s=0.03))
    for n in range(40):
        scheduler.arrive(request(f"r{n}", 20))
    sent = []
    for step in range(200):
        sent.extend(dispatched(scheduler, step / 100))
    # The first, and what takes no more than lookahead and outstanding together, and one.
    assert len(sent) == 1 + 7


def test_a_request_is_taken_back_so_often_and_no_more() -> None:
    scheduler = plain_scheduler(UNIFIED, SchedulerConfig(max_recalls=0))
    hang_with_a_pile(scheduler)
    assert scheduler.decide(scheduler.next_decision_s(1.0)) == []


def test_who_answers_in_one_piece_may_have_been_begun_and_stays() -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    for name in "abc":
        scheduler.arrive(request(name, 5, is_prefill_told=False))
    dispatched(scheduler, 0.0)
    assert scheduler.decide(1000.0) == []


@EITHER
def test_an_unusable_worker_is_sent_nothing(workers: Workers) -> None:
    scheduler = plain_scheduler(workers)
    for name in ("u0", "p0", "d0"):
        scheduler.set_usable(name, False)
    for n in range(4):
        scheduler.arrive(request(f"r{n}", 5))
        for dispatch in dispatched(scheduler, float(n)):
            assert {dispatch.worker_id, dispatch.prefill_worker_id} <= {"u1", "p1", "d1", None}
        scheduler.prefill_over(f"r{n}", n + 0.5)
    scheduler.set_usable("u1", False)
    scheduler.set_usable("d1", False)
    scheduler.arrive(request("nobody", 5, at_s=9.0))
    assert dispatched(scheduler, 9.0) == []
    scheduler.set_usable("u0", True)
    scheduler.set_usable("d0", True)
    assert len(dispatched(scheduler, 9.5)) == 1


@pytest.mark.parametrize(
    ("workers", "avoided", "expected"),
    [
        (UNIFIED, ("u0",), ("u1", None)),
        (UNIFIED, ("u0", "u1"), ("u0", None)),
        (PAIRS, ("p0",), ("d0", "p1")),
        (PAIRS, ("p0", "d0"), ("d1", "p1")),
        (PAIRS, ("d0", "d1"), ("d0", "p0")),
    ],
)
def test_workers_where_it_failed_are_avoided_while_there_are_others(
    workers: Workers, avoided: Sequence[str], expected: tuple[str, str | None]
) -> None:
    scheduler = plain_scheduler(workers)
    scheduler.arrive(request("a", avoided_ids=avoided))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert (dispatch.worker_id, dispatch.prefill_worker_id) == expected


def test_it_waits_for_another_worker_rather_than_go_where_it_failed() -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.set_usable("u0", False)
    scheduler.arrive(request("busy", 1000))
    dispatched(scheduler, 0.0)
    scheduler.set_usable("u0", True)
    scheduler.arrive(request("again", 10, avoided_ids=("u0",)))
    assert dispatched(scheduler, 0.0) == []
    scheduler.set_usable("u1", False)
    assert placed(dispatched(scheduler, 0.1)) == {"again": "u0"}


@ONE_OF_EITHER
def test_one_that_does_not_fit_does_not_stop_those_that_do(workers: Workers) -> None:
    scheduler = plain_scheduler(workers, kv_capacity_tokens=1000)
    scheduler.arrive(request("running", 300))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("running", 0.3)
    scheduler.arrive(request("large", 800, at_s=0.3, ttft_s=5.0))
    scheduler.arrive(request("small", 50, at_s=0.3, ttft_s=9.0))
    assert set(placed(dispatched(scheduler, 0.3))) == {"small"}


@ONE_OF_EITHER
def test_a_late_one_that_never_fits_gets_a_worker_kept_free(workers: Workers) -> None:
    config = SchedulerConfig(demoted_share=0.5)
    cluster = PlayedCluster(plain_scheduler(workers, config, 1000), decode_s=1.0)
    small = [request(f"s{n}", 50, at_s=0.1 * n, ttft_s=20.0) for n in range(400)]
    cluster.run([request("giant", 900, ttft_s=0.1), *small])
    assert cluster.sent_at_s("giant") < 30.0
    assert len(cluster.ended_at_s) == 401


@ONE_OF_EITHER
def test_a_worker_kept_free_is_used_though_the_one_it_is_kept_for_takes_longer_by_then(
    workers: Workers,
) -> None:
    digests = list(range(85))
    scheduler = plain_scheduler(workers, SchedulerConfig(demoted_share=0.2), 1000)
    scheduler.arrive(request("before", 860, block_digests=digests))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 0.9)
    scheduler.over("before", 1.0, None)
    scheduler.arrive(request("running", 300, at_s=1.0))
    dispatched(scheduler, 1.0)
    scheduler.prefill_over("running", 1.3)
    # 10 ms where its prefix is; the small ones earn it that much.
    scheduler.arrive(request("giant", 860, at_s=2.0, ttft_s=0.001, block_digests=digests))
    for n in range(4):
        scheduler.arrive(request(f"s{n}", 50, at_s=2.0 + n, ttft_s=9.0))
        dispatched(scheduler, 2.0 + n)
        scheduler.over(f"s{n}", 2.5 + n, None)
    scheduler.arrive(request("other", 50, at_s=7.0, ttft_s=9.0))
    assert dispatched(scheduler, 7.0) == [], "the worker is kept free"
    # Its prefix is lost, so that it has not earned enough any more.
    prefill_id = workers[0][0]
    facts = scheduler._prefillers.states[prefill_id].facts
    if len(workers) > 1:
        scheduler.add_worker(facts)
    scheduler.over("running", 7.5, None)
    sent = [*dispatched(scheduler, 7.5), *dispatched(scheduler, 8.5)]
    assert "giant" in {dispatch.request_id for dispatch in sent}


def test_with_best_effort_the_late_get_nothing_but_what_is_left_over() -> None:
    late = [request("late", 200, ttft_s=0.1)]
    stream = [request(f"s{n}", 100, at_s=max(n - 3, 0) / 10, ttft_s=1.0) for n in range(80)]
    sent_at_s = []
    for mode in (OnInfeasible.DEMOTE, OnInfeasible.BEST_EFFORT):
        config = replace(SchedulerConfig(demoted_share=0.1), on_infeasible=mode)
        cluster = PlayedCluster(plain_scheduler(PAIRS[1:3], config))
        cluster.run([*late, *stream])
        sent_at_s.append(cluster.sent_at_s("late"))
    assert sent_at_s[0] < 6.0 < 7.5 < sent_at_s[1]
