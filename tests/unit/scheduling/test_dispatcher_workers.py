"""How workers that come, go and change reach the scheduler."""

import pytest
from support.dispatching import Desk, ScriptedScheduler, dispatch

from hfx_sgl.policy.scheduler.facts import WorkerFacts
from hfx_sgl.types import Role

PD = (Role.PREFILL, Role.DECODE)


@pytest.fixture
def scheduler() -> ScriptedScheduler:
    return ScriptedScheduler()


def test_a_worker_joins_with_what_it_says_of_itself(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler, roles=PD)
    desk.add_worker("d0", Role.DECODE)
    facts = WorkerFacts(
        worker_id="d0", role=Role.DECODE, kv_capacity_tokens=1_000_000, models=desk.models
    )
    assert scheduler.heard == [("add_worker", facts)]


@pytest.mark.parametrize("capacity", [None, 0, -1, "many"])
def test_a_worker_that_does_not_tell_its_kv_room_gets_some(
    scheduler: ScriptedScheduler, capacity: object
) -> None:
    desk = Desk(scheduler)
    worker = desk.registry.new_worker("u1", desk.add_worker("u0").spec)
    worker.is_probed = True
    worker.metadata["max_total_num_tokens"] = capacity
    desk.registry.add(worker)
    what, facts = scheduler.heard[-1]
    assert what == "add_worker"
    assert isinstance(facts, WorkerFacts)
    assert facts.kv_capacity_tokens == 1_048_576


def test_a_worker_that_is_not_probed_yet_is_nobody(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler)
    spec = desk.add_worker("u0").spec
    mark = len(scheduler.heard)
    desk.registry.add(desk.registry.new_worker("u1", spec))
    assert scheduler.told_since(mark) == []


def test_workers_of_other_pools_are_not_told_of(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler, roles=PD)
    desk.add_worker("u0", Role.REGULAR)
    assert scheduler.heard == []
    assert desk.dispatcher.missing_role() is Role.PREFILL


def test_usability_is_told_once_for_each_change(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler)
    worker = desk.add_worker("u0")
    other = desk.add_worker("u1")
    mark = len(scheduler.heard)
    desk.registry.record_check(worker, False)
    desk.registry.record_check(other, True)
    desk.registry.record_check(worker, False)
    assert scheduler.told_since(mark) == [("set_usable", "u0", False)]
    desk.registry.record_check(worker, True)
    assert scheduler.told_since(mark)[1:] == [("set_usable", "u0", True)]


def test_a_breaker_makes_a_worker_unusable_until_it_lets_through(
    scheduler: ScriptedScheduler,
) -> None:
    desk = Desk(scheduler)
    worker = desk.add_worker("u0")
    mark = len(scheduler.heard)
    desk.registry.record_failure(worker)
    assert scheduler.told_since(mark) == [("set_usable", "u0", False)]
    desk.clock.advance(11.0)
    desk.registry.poll()
    assert scheduler.told_since(mark)[1:] == [("set_usable", "u0", True)]


def test_a_worker_that_drains_gets_nothing_and_is_still_known(
    scheduler: ScriptedScheduler,
) -> None:
    desk = Desk(scheduler)
    worker = desk.add_worker("u0")
    mark = len(scheduler.heard)
    desk.registry.drain(worker)
    assert scheduler.told_since(mark) == [("set_usable", "u0", False)]
    desk.registry.remove("u0")
    assert scheduler.told_since(mark)[1:] == [("remove_worker", "u0")]


def test_a_worker_that_joins_unusable_is_told_so(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler)
    worker = desk.add_worker("u0")
    desk.registry.record_check(worker, False)
    desk.registry.remove("u0")
    mark = len(scheduler.heard)
    worker.is_draining = False
    desk.registry.add(worker)
    assert [entry[0] for entry in scheduler.told_since(mark)] == ["add_worker", "set_usable"]
    assert scheduler.heard[-1] == ("set_usable", "u0", False)


def test_a_worker_that_comes_back_under_its_id_has_started_anew(
    scheduler: ScriptedScheduler,
) -> None:
    desk = Desk(scheduler)
    desk.add_worker("u0")
    sent = desk.apply()
    scheduler.next_actions = [dispatch(sent)]
    desk.timers.turn()
    desk.add_worker("u1")
    mark = len(scheduler.heard)
    again = desk.registry.new_worker("u0", desk.registry.workers[0].spec)
    again.is_probed = True
    desk.registry.add(again)
    assert [entry[0] for entry in scheduler.told_since(mark)] == ["remove_worker", "add_worker"]
    next_one = desk.apply()
    scheduler.next_actions = [dispatch(next_one)]
    desk.timers.turn()
    assert next_one.assignments[-1].worker is again
    assert sent.heard == ["assigned"]


def test_a_worker_that_changes_its_role_leaves_one_pool_and_joins_the_other(
    scheduler: ScriptedScheduler,
) -> None:
    """It is registered again: a record never changes its role."""
    desk = Desk(scheduler, roles=PD)
    for index in range(2):
        desk.add_worker(f"p{index}", Role.PREFILL)
    desk.add_worker("d0", Role.DECODE)
    waiting = desk.apply()
    mark = len(scheduler.heard)
    desk.registry.remove("p1")
    desk.add_worker("p1", Role.DECODE)
    told = scheduler.told_since(mark)
    assert told[0] == ("remove_worker", "p1")
    facts = told[1][1]
    assert isinstance(facts, WorkerFacts)
    assert (facts.worker_id, facts.role) == ("p1", Role.DECODE)
    scheduler.next_actions = [dispatch(waiting, "p1", "p0")]
    desk.timers.turn()
    assert (waiting.prefill_id, waiting.worker_id) == ("p0", "p1")
