"""When requests are sent, and in which order."""

import math

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import (
    LOOKAHEAD_S,
    MARGIN_S,
    PAIRS,
    UNIFIED,
    dispatched,
    plain_scheduler,
    request,
)

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import Dispatch, RequestFacts
from hfx_sgl.types import Role

ONE_UNIFIED = (("u0", Role.REGULAR),)
ONE_PAIR = (("p0", Role.PREFILL), ("d0", Role.DECODE))
EITHER = pytest.mark.parametrize("workers", [ONE_UNIFIED, ONE_PAIR])


def sent_ids(dispatches: list[Dispatch]) -> list[str]:
    return [dispatch.request_id for dispatch in dispatches]


def test_an_idle_unified_cluster_is_sent_to_at_once() -> None:
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(request("a", 200, ttft_s=1.0))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert (dispatch.request_id, dispatch.worker_id) == ("a", "u0")
    assert dispatch.prefill_worker_id is None
    assert dispatch.is_on_time
    assert dispatch.predicted_prefill_s == pytest.approx(0.2)
    assert dispatch.num_hit_tokens == 0
    assert dispatched(scheduler, 0.0) == []


def test_an_idle_pair_is_sent_to_at_once() -> None:
    scheduler = plain_scheduler(PAIRS)
    scheduler.arrive(request("a", 200))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert (dispatch.prefill_worker_id, dispatch.worker_id) == ("p0", "d0")


def test_every_idle_worker_gets_one() -> None:
    scheduler = plain_scheduler(PAIRS)
    for name in "abc":
        scheduler.arrive(request(name, 200))
    assert [dispatch.prefill_worker_id for dispatch in dispatched(scheduler, 0.0)] == ["p0", "p1"]


def test_without_workers_everybody_waits() -> None:
    scheduler = plain_scheduler(())
    scheduler.arrive(request("a"))
    assert dispatched(scheduler, 0.0) == []
    assert scheduler.next_decision_s(0.0) == math.inf


@EITHER
def test_a_prompt_waits_while_the_one_before_takes_long(
    workers: tuple[tuple[str, Role], ...],
) -> None:
    scheduler = plain_scheduler(workers)
    scheduler.arrive(request("a", 200))
    scheduler.arrive(request("b", 200))
    assert sent_ids(dispatched(scheduler, 0.0)) == ["a"]
    wanted_s = scheduler.next_decision_s(0.0)
    assert 0.2 - LOOKAHEAD_S - 1e-9 <= wanted_s < 0.2
    assert dispatched(scheduler, wanted_s - 0.001) == []
    assert sent_ids(dispatched(scheduler, wanted_s)) == ["b"]
    # Nothing but that the worker may turn out to be stuck.
    assert scheduler.next_decision_s(wanted_s) > 1.0
    scheduler.prefill_over("a", wanted_s)
    assert dispatched(scheduler, wanted_s) == []
    scheduler.prefill_over("a", wanted_s)
    assert dispatched(scheduler, wanted_s) == []
    assert scheduler.next_decision_s(wanted_s) == math.inf


def test_short_prompts_are_sent_together() -> None:
    scheduler = plain_scheduler(ONE_PAIR)
    for name in "abcdef":
        scheduler.arrive(request(name, 12))
    assert sent_ids(dispatched(scheduler, 0.0)) == ["a", "b", "c"]


def test_a_prompt_that_is_computed_early_makes_place() -> None:
    scheduler = plain_scheduler(ONE_PAIR)
    scheduler.arrive(request("a", 200))
    scheduler.arrive(request("b", 200))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("a", 0.1)
    assert sent_ids(dispatched(scheduler, 0.1)) == ["b"]


@EITHER
def test_the_earliest_deadline_goes_first(workers: tuple[tuple[str, Role], ...]) -> None:
    cluster = PlayedCluster(plain_scheduler(workers))
    cluster.run(
        [
            request("first", 300, ttft_s=9.0),
            request("loose", 100, at_s=0.01, ttft_s=6.0),
            request("tight", 100, at_s=0.02, ttft_s=2.0),
            request("middle", 100, at_s=0.03, ttft_s=4.0),
        ]
    )
    assert cluster.sent_ids() == ["first", "tight", "middle", "loose"]


def test_the_same_promise_is_served_in_order_of_arrival() -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR))
    cluster.run([request(f"r{n}", 100, ttft_s=50.0) for n in range(12)])
    assert cluster.sent_ids() == [f"r{n}" for n in range(12)]


@EITHER
def test_a_request_without_a_promise_lets_the_promised_go_first(
    workers: tuple[tuple[str, Role], ...],
) -> None:
    cluster = PlayedCluster(plain_scheduler(workers))
    cluster.run(
        [
            request("first", 300),
            request("free", 100, at_s=0.01),
            request("promised", 100, at_s=0.02, ttft_s=2.0),
        ]
    )
    assert cluster.sent_ids() == ["first", "promised", "free"]
    assert all(dispatch.is_on_time for _, dispatch in cluster.sent)


@EITHER
def test_who_cannot_be_on_time_steps_back_and_is_served(
    workers: tuple[tuple[str, Role], ...],
) -> None:
    cluster = PlayedCluster(plain_scheduler(workers))
    cluster.run(
        [
            request("hopeless", 1000, ttft_s=0.5),
            request("good", 100, ttft_s=1.0),
            request("other", 100, ttft_s=1.0),
        ]
    )
    assert cluster.sent_ids() == ["good", "other", "hopeless"]
    assert [dispatch.is_on_time for _, dispatch in cluster.sent] == [True, True, False]
    assert set(cluster.ended_at_s) == {"good", "other", "hopeless"}


def test_gives_up_the_long_one_rather_than_two_short_ones() -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR))
    cluster.run(
        [
            request("long", 800, ttft_s=1.0),
            request("short", 300, ttft_s=1.1),
            request("other", 300, ttft_s=1.2),
        ]
    )
    assert cluster.sent_ids() == ["short", "other", "long"]
    assert [dispatch.is_on_time for _, dispatch in cluster.sent] == [True, True, False]


def a_full_stream(until_s: float) -> list[RequestFacts]:
    """Prompts of a tenth of a second, ten a second, all promised, the first three at once."""
    return [
        request(f"s{n}", 100, at_s=max(n - 3, 0) / 10, ttft_s=1.0)
        for n in range(1, math.ceil(10 * until_s) + 3)
    ]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_nobody_starves_under_a_stream_of_feasible_requests(share: float) -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR, SchedulerConfig(demoted_share=share)))
    cluster.run([request("late", 200, ttft_s=0.1), *a_full_stream(8.0)], until_s=8.0)
    assert cluster.sent_at_s("s1") < cluster.sent_at_s("late") <= 0.2 / share + 1.0


def test_without_a_share_the_late_wait_for_a_gap() -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR, SchedulerConfig(demoted_share=0.0)))
    cluster.run([request("late", 200, ttft_s=0.1), *a_full_stream(8.0)], until_s=8.0)
    assert "late" not in cluster.sent_ids()
    assert len(cluster.sent) > 70


def test_a_long_one_does_not_starve_when_nobody_can_be_on_time() -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR, SchedulerConfig(demoted_share=0.1)))
    shorter = [request(f"s{n}", 100, at_s=n / 10, ttft_s=0.05) for n in range(80)]
    cluster.run([request("long", 200, at_s=0.01, ttft_s=0.05), *shorter], until_s=8.0)
    assert cluster.sent_at_s("long") < 4.0


def test_says_when_to_ask_again() -> None:
    scheduler = plain_scheduler(ONE_UNIFIED, kv_capacity_tokens=300)
    assert scheduler.next_decision_s(0.0) == math.inf
    scheduler.arrive(request("a", 100))
    scheduler.arrive(request("b", 100))
    dispatched(scheduler, 0.0)
    wanted_s = scheduler.next_decision_s(0.0)
    assert 0.0 < wanted_s < 0.1
    # No room for the second, whatever the time: only an event helps.
    assert dispatched(scheduler, wanted_s) == []
    scheduler.prefill_over("a", wanted_s)
    assert dispatched(scheduler, wanted_s) == []
    assert scheduler.next_decision_s(wanted_s) == math.inf


def test_the_late_get_no_more_than_their_share() -> None:
    cluster = PlayedCluster(plain_scheduler(ONE_PAIR, SchedulerConfig(demoted_share=0.1)))
    late = [request(name, 200, ttft_s=0.1) for name in ("late", "later")]
    cluster.run([*late, *a_full_stream(8.0)], until_s=8.0)
    assert cluster.sent_at_s("later") - cluster.sent_at_s("late") > 1.5


def test_one_long_prompt_does_not_stop_the_workers_beside_it() -> None:
    scheduler = plain_scheduler(PAIRS)
    scheduler.arrive(request("long", 5000))
    dispatched(scheduler, 0.0)
    scheduler.arrive(request("urgent", 100, ttft_s=0.5))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert (dispatch.prefill_worker_id, dispatch.is_on_time) == ("p1", True)


def test_several_workers_are_faster_than_one() -> None:
    scheduler = plain_scheduler(PAIRS)
    scheduler.arrive(request("a", 500, ttft_s=0.60))
    scheduler.arrive(request("b", 450, ttft_s=0.65))
    # On one worker the longer would have to step back.
    assert sent_ids(dispatched(scheduler, 0.0)) == ["a", "b"]


@pytest.mark.parametrize(("margins", "is_on_time"), [(0.5, False), (1.5, True)])
def test_a_margin_is_kept_before_the_promise(margins: float, is_on_time: bool) -> None:
    scheduler = plain_scheduler(ONE_UNIFIED)
    scheduler.arrive(request("a", 100, ttft_s=0.1 + margins * MARGIN_S))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert dispatch.is_on_time is is_on_time
