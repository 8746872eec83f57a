"""Where requests are sent: prefixes, KV room, pacing, decode workers."""

from collections.abc import Sequence

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import (
    LOOKAHEAD_S,
    PAIRS,
    UNIFIED,
    dispatched,
    plain_scheduler,
    request,
    worker,
)

from hfx_sgl.policy.scheduler.facts import Dispatch, RequestFacts
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

SHARED = list(range(50))
"""500 tokens."""


def with_prefix(
    request_id: str, num_more_tokens: int = 10, *, digests: Sequence[int] = SHARED, **rest: float
) -> RequestFacts:
    num_tokens = 10 * len(digests) + num_more_tokens
    return request(request_id, num_tokens, block_digests=digests, **rest)  # type: ignore[arg-type]


def knows_prefix(workers: Sequence[tuple[str, Role]], digests: Sequence[int] = SHARED) -> Scheduler:
    """The first worker has computed the prefix by second 1, and nothing goes on."""
    scheduler = plain_scheduler(workers)
    scheduler.arrive(with_prefix("before", digests=digests))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 0.6)
    scheduler.over("before", 1.0, None)
    return scheduler


def placed(dispatches: Sequence[Dispatch]) -> list[tuple[str, str]]:
    return [
        (dispatch.request_id, dispatch.prefill_worker_id or dispatch.worker_id)
        for dispatch in dispatches
    ]


@pytest.mark.parametrize(("workers", "home"), [(UNIFIED, "u0"), (PAIRS, "p0")])
def test_the_worker_that_has_the_prefix_gets_it(
    workers: Sequence[tuple[str, Role]], home: str
) -> None:
    scheduler = knows_prefix(workers)
    scheduler.arrive(with_prefix("a", at_s=1.0, ttft_s=2.0))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert placed([dispatch]) == [("a", home)]
    assert dispatch.num_hit_tokens == 500
    assert dispatch.predicted_prefill_s == pytest.approx(0.01)


@pytest.mark.parametrize(("workers", "home"), [(UNIFIED, "u0"), (PAIRS, "p0")])
def test_it_waits_for_that_worker_as_long_as_it_can(
    workers: Sequence[tuple[str, Role]], home: str
) -> None:
    scheduler = knows_prefix(workers)
    # Continues what only the home has, so that this goes there, too.
    scheduler.arrive(with_prefix("long", 1000, at_s=1.0))
    assert placed(dispatched(scheduler, 1.0)) == [("long", home)]
    scheduler.arrive(with_prefix("a", at_s=1.0, ttft_s=3.0))
    assert dispatched(scheduler, 1.0) == []
    wanted_s = scheduler.next_decision_s(1.0)
    assert 2.0 - LOOKAHEAD_S - 1e-9 <= wanted_s < 2.0
    assert placed(dispatched(scheduler, wanted_s)) == [("a", home)]


@pytest.mark.parametrize(("workers", "other"), [(UNIFIED, "u1"), (PAIRS, "p1")])
def test_it_goes_elsewhere_when_it_would_be_late_there(
    workers: Sequence[tuple[str, Role]], other: str
) -> None:
    scheduler = knows_prefix(workers)
    scheduler.arrive(with_prefix("long", 1000, at_s=1.0))
    dispatched(scheduler, 1.0)
    scheduler.arrive(with_prefix("a", at_s=1.0, ttft_s=0.7))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert placed([dispatch]) == [("a", other)]
    assert dispatch.num_hit_tokens == 0
    assert dispatch.predicted_prefill_s == pytest.approx(0.51)
    assert dispatch.is_on_time


@pytest.mark.parametrize(("num_blocks", "is_stolen"), [(1, True), (4, False)])
def test_a_small_prefix_is_not_waited_for(num_blocks: int, is_stolen: bool) -> None:
    digests = SHARED[:num_blocks]
    scheduler = knows_prefix(PAIRS, digests)
    # Without a prefix this goes to the worker that was idle longest; the next one to the other.
    scheduler.arrive(request("x", 1000, at_s=1.0))
    assert placed(dispatched(scheduler, 1.0)) == [("x", "p1")]
    scheduler.over("x", 1.1, None)
    scheduler.arrive(with_prefix("long", 1000, at_s=1.1, digests=digests))
    first = placed(dispatched(scheduler, 1.1))
    scheduler.arrive(with_prefix("a", at_s=1.1, ttft_s=9.0, digests=digests))
    assert first == [("long", "p0")]
    assert placed(dispatched(scheduler, 1.1)) == ([("a", "p1")] if is_stolen else [])


def test_those_behind_who_may_go_elsewhere_are_not_held_up() -> None:
    scheduler = knows_prefix(PAIRS)
    scheduler.arrive(with_prefix("long", 1000, at_s=1.0))
    dispatched(scheduler, 1.0)
    scheduler.arrive(with_prefix("a", at_s=1.0, ttft_s=3.0))
    scheduler.arrive(request("b", at_s=1.0, ttft_s=8.0))
    assert placed(dispatched(scheduler, 1.0)) == [("b", "p1")]


def test_a_prefix_that_was_just_sent_draws_those_that_wait() -> None:
    scheduler = plain_scheduler(PAIRS)
    for name in "abc":
        scheduler.arrive(with_prefix(name, ttft_s=30.0))
    assert placed(dispatched(scheduler, 0.0)) == [("a", "p0")]
    later = dispatched(scheduler, 0.51)
    assert placed(later)[0] == ("b", "p0")
    assert later[0].num_hit_tokens == 500


def test_a_full_worker_is_not_waited_for() -> None:
    scheduler = plain_scheduler(UNIFIED, kv_capacity_tokens=2000)
    scheduler.arrive(with_prefix("before", 900))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 1.5)
    scheduler.arrive(with_prefix("a", at_s=1.5, ttft_s=30.0))
    assert placed(dispatched(scheduler, 1.5)) == [("a", "u1")]


@pytest.mark.parametrize(
    ("workers", "num_places"), [(UNIFIED[:1], 3), (UNIFIED, 6), (PAIRS, 6), (PAIRS[:3], 3)]
)
def test_kv_is_filled_up_to_its_share_only(
    workers: Sequence[tuple[str, Role]], num_places: int
) -> None:
    scheduler = plain_scheduler(workers, kv_capacity_tokens=1000)
    for n in range(10):
        scheduler.arrive(request(f"r{n}", 200, max_output_tokens=100))
    sent: list[Dispatch] = []
    for second in range(10):
        for dispatch in dispatched(scheduler, float(second)):
            scheduler.prefill_over(dispatch.request_id, second + 0.5)
            sent.append(dispatch)
    assert len(sent) == num_places
    scheduler.over("r0", 10.0, None)
    assert placed(dispatched(scheduler, 10.0))[0][0] == f"r{num_places}"
    assert dispatched(scheduler, 11.0) == []


@pytest.mark.parametrize("workers", [UNIFIED[:1], PAIRS[1:3]])
def test_a_giant_goes_alone(workers: Sequence[tuple[str, Role]]) -> None:
    scheduler = plain_scheduler(workers, kv_capacity_tokens=1000)
    scheduler.arrive(request("small", 10))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("small", 0.1)
    scheduler.arrive(request("giant", 5000, at_s=0.1))
    assert dispatched(scheduler, 1.0) == []
    scheduler.over("small", 2.0, None)
    assert [dispatch.request_id for dispatch in dispatched(scheduler, 2.0)] == ["giant"]
    scheduler.arrive(request("after", 10, at_s=2.0))
    assert dispatched(scheduler, 60.0) == []


@pytest.mark.parametrize(
    ("tpot_s", "gap_s"),
    # Two running requests have steps of 12 ms, of which 0.9 of the promise must have room.
    [(10.0, 0.1), (0.02, 0.3), (0.001, 1.0)],
)
def test_prefills_are_spaced_by_what_running_requests_can_bear(tpot_s: float, gap_s: float) -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("running", 10, tpot_s=tpot_s))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("running", 0.01)
    cluster = PlayedCluster(scheduler, decode_s=5.0)
    cluster.run([request("a", 100, at_s=1.0), request("b", 100, at_s=1.0)])
    assert cluster.sent_at_s("a") == 1.0
    assert cluster.sent_at_s("b") == pytest.approx(1.0 + gap_s, abs=LOOKAHEAD_S)


def test_spacing_ends_when_nobody_runs() -> None:
    scheduler = plain_scheduler(UNIFIED[:1])
    scheduler.arrive(request("running", 10, tpot_s=0.001))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("running", 0.01)
    for name in "ab":
        scheduler.arrive(request(name, 100, at_s=1.0))
    dispatched(scheduler, 1.0)
    scheduler.prefill_over("a", 1.1)
    assert dispatched(scheduler, 1.1) == []
    for name in ("running", "a"):
        scheduler.over(name, 1.2, None)
    assert placed(dispatched(scheduler, 1.2)) == [("b", "u0")]


def test_pairs_need_no_spacing() -> None:
    scheduler = plain_scheduler(PAIRS[1:3])
    cluster = PlayedCluster(scheduler, decode_s=5.0)
    cluster.run([request(name, 100, tpot_s=0.001) for name in "abc"])
    assert cluster.sent_at_s("c") < 0.2


def test_decodes_where_steps_stay_shortest() -> None:
    scheduler = plain_scheduler(PAIRS)
    sent = []
    for n in range(4):
        scheduler.arrive(request(f"r{n}", 10, at_s=float(n)))
        sent.extend(dispatched(scheduler, float(n)))
        if n == 2:
            scheduler.over("r1", 2.5, None)
            scheduler.over("r0", 2.5, None)
            scheduler.over("r2", 2.5, None)
            scheduler.arrive(request("again", 10, at_s=2.5))
            sent.extend(dispatched(scheduler, 2.5))
    assert [(dispatch.request_id, dispatch.worker_id) for dispatch in sent] == [
        ("r0", "d0"), ("r1", "d1"), ("r2", "d0"), ("again", "d0"), ("r3", "d1"),
    ]  # fmt: skip


def test_a_decode_worker_without_room_is_passed_over() -> None:
    scheduler = plain_scheduler(PAIRS[:2])
    scheduler.add_worker(worker("small", Role.DECODE, 500))
    scheduler.add_worker(worker("large", Role.DECODE, 50_000))
    sent: list[Dispatch] = []
    for n in range(5):
        scheduler.arrive(request(f"r{n}", 200, at_s=float(n), max_output_tokens=100))
        sent.extend(dispatched(scheduler, float(n)))
        scheduler.prefill_over(f"r{n}", n + 0.5)
    assert [dispatch.worker_id for dispatch in sent] == ["small", *["large"] * 4]


def test_unified_workers_share_the_load() -> None:
    scheduler = plain_scheduler(UNIFIED)
    sent: list[Dispatch] = []
    for n in range(6):
        scheduler.arrive(request(f"r{n}", 10, at_s=float(n)))
        sent.extend(dispatched(scheduler, float(n)))
    assert [dispatch.worker_id for dispatch in sent] == ["u0", "u1"] * 3


def test_a_unified_worker_with_fewer_running_requests_comes_first() -> None:
    scheduler = plain_scheduler(UNIFIED)
    for name in ("on u0", "on u1"):
        scheduler.arrive(request(name, 200))
    assert placed(dispatched(scheduler, 0.0)) == [("on u0", "u0"), ("on u1", "u1")]
    scheduler.prefill_over("on u1", 0.1)
    scheduler.prefill_over("on u0", 0.3)
    scheduler.over("on u0", 0.4, None)
    # It has been idle for less long than the other.
    scheduler.arrive(request("next", 200, at_s=1.0))
    assert placed(dispatched(scheduler, 1.0)) == [("next", "u0")]


def test_a_worker_that_one_request_did_not_suit_gets_the_next() -> None:
    scheduler = knows_prefix(PAIRS)
    scheduler.arrive(with_prefix("at home", 200, at_s=1.0, ttft_s=2.0))
    scheduler.arrive(request("late", 100, at_s=1.0, ttft_s=0.01))
    assert placed(dispatched(scheduler, 1.0)) == [("at home", "p0"), ("late", "p1")]
