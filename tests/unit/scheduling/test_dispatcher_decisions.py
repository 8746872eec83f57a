"""The dispatcher with the real scheduler: requests wait, are sent, and leave nothing behind."""

import pytest
from support.dispatching import Desk
from support.scheduling import LOOKAHEAD_S, plain_scheduler

from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.types import Role

PD = (Role.PREFILL, Role.DECODE)


def unified(num_workers: int = 1, on_infeasible: OnInfeasible = OnInfeasible.DEMOTE) -> Desk:
    desk = Desk(plain_scheduler((), SchedulerConfig(on_infeasible=on_infeasible)))
    for index in range(num_workers):
        desk.add_worker(f"u{index}")
    desk.timers.turn()
    return desk


def pair() -> Desk:
    desk = Desk(plain_scheduler(()), roles=PD)
    desk.add_worker("p0", Role.PREFILL)
    desk.add_worker("d0", Role.DECODE)
    desk.timers.turn()
    return desk


def is_idle(desk: Desk) -> bool:
    """Whether a new prompt is sent at once to each worker: none is taken to be busy."""
    applicants = [desk.apply(1000) for _ in desk.registry.workers]
    desk.timers.turn()
    chosen = {applicant.worker_id for applicant in applicants if applicant.assignments}
    for applicant in applicants:
        applicant.leave()
    desk.timers.turn()
    return len(chosen) == len(desk.registry.workers)


def test_one_prompt_after_the_other() -> None:
    desk = pair()
    first, second = desk.apply(500), desk.apply(500)
    desk.timers.turn()
    assert (first.heard, second.heard) == (["assigned"], [])
    desk.dispatcher.prefill_over(first.ticket)
    desk.timers.turn()
    assert second.heard == ["assigned"]
    first.leave(10)
    second.leave(10)
    desk.timers.turn()
    assert desk.is_empty


def test_the_next_prompt_goes_out_before_the_worker_is_idle() -> None:
    desk = pair()
    first, second = desk.apply(500), desk.apply(500)
    desk.timers.turn()
    desk.timers.advance(0.5 - LOOKAHEAD_S - 0.001)
    assert second.heard == []
    desk.timers.advance(0.002)
    assert second.heard == ["assigned"]
    first.leave(10)
    second.leave(10)
    assert desk.is_empty


def test_pairs_are_chosen_together() -> None:
    desk = Desk(plain_scheduler(()), roles=PD)
    for index in range(2):
        desk.add_worker(f"p{index}", Role.PREFILL)
        desk.add_worker(f"d{index}", Role.DECODE)
    applicants = [desk.apply(500) for _ in range(4)]
    desk.timers.turn()
    sent = [applicant for applicant in applicants if applicant.assignments]
    assert {applicant.prefill_id for applicant in sent} == {"p0", "p1"}
    assert {applicant.worker_id for applicant in sent} == {"d0", "d1"}
    for applicant in sent:
        desk.dispatcher.prefill_over(applicant.ticket)
    desk.timers.turn()
    assert all(applicant.assignments for applicant in applicants)
    for applicant in applicants:
        applicant.leave(10)
    assert desk.is_empty


def test_who_leaves_the_queue_makes_room_for_those_behind() -> None:
    desk = pair()
    first = desk.apply(500)
    desk.timers.turn()
    urgent, relaxed = desk.apply(400, ttft_s=5.0), desk.apply(400, ttft_s=9.0)
    urgent.leave()
    desk.dispatcher.prefill_over(first.ticket)
    desk.timers.turn()
    assert (urgent.heard, relaxed.heard) == ([], ["assigned"])
    first.leave(10)
    relaxed.leave(10)
    assert desk.is_empty


def test_who_leaves_while_its_prompt_is_computed_frees_the_worker() -> None:
    desk = unified()
    first, second = desk.apply(5000), desk.apply(500)
    desk.timers.turn()
    first.leave()
    desk.timers.turn()
    assert second.heard == ["assigned"]
    second.leave(1)
    desk.timers.turn()
    assert is_idle(desk)


def test_a_new_worker_serves_those_that_wait() -> None:
    desk = unified()
    first, second = desk.apply(5000), desk.apply(500)
    desk.timers.turn()
    assert second.heard == []
    desk.add_worker("u1")
    desk.timers.turn()
    assert second.worker_id == "u1"
    first.leave(1)
    second.leave(1)
    assert desk.is_empty


def test_a_worker_that_left_gets_nothing_and_may_come_back() -> None:
    desk = unified(2)
    first, second = desk.apply(500), desk.apply(500)
    desk.timers.turn()
    assert {first.worker_id, second.worker_id} == {"u0", "u1"}
    stays, leaves = sorted((first, second), key=lambda applicant: applicant.worker_id)
    desk.registry.remove("u1")
    third = desk.apply(500)
    stays.leave(10)
    desk.timers.turn()
    assert third.worker_id == "u0"
    desk.add_worker("u1")
    leaves.leave(10)  # a request of the worker that was there before
    fourth = desk.apply(500)
    desk.timers.turn()
    assert fourth.worker_id == "u1"
    third.leave(10)
    fourth.leave(10)
    desk.timers.turn()
    assert desk.is_empty
    assert is_idle(desk)


def test_the_only_worker_becomes_unusable_and_usable_again() -> None:
    desk = unified()
    [worker] = desk.registry.workers
    first, second = desk.apply(500), desk.apply(500)
    desk.timers.turn()
    desk.registry.record_check(worker, False)
    assert (first.heard, second.heard) == (["assigned"], ["turned away"])
    desk.timers.advance(10.0)
    first.leave(10)
    desk.registry.record_check(worker, True)
    third = desk.apply(500)
    desk.timers.turn()
    assert third.heard == ["assigned"]
    third.leave(10)
    assert desk.is_empty


def test_an_impossible_promise_is_refused_where_that_is_wanted() -> None:
    desk = unified(on_infeasible=OnInfeasible.REJECT)
    hopeless, fine = desk.apply(5000, ttft_s=0.1), desk.apply(100, ttft_s=10.0)
    desk.timers.turn()
    assert hopeless.heard == ["turned away"]
    assert hopeless.error is not None
    assert hopeless.error.http_status == 429
    assert hopeless.error.retry_after_s is None, "no waiting would help"
    assert fine.heard == ["assigned"]
    fine.leave(1)
    assert desk.is_empty
    assert is_idle(desk)


def test_a_promise_that_the_queue_makes_impossible_is_refused_for_a_while() -> None:
    desk = unified(on_infeasible=OnInfeasible.REJECT)
    first = desk.apply(5000, ttft_s=10.0)
    desk.timers.turn()
    second = desk.apply(500, ttft_s=1.0)
    desk.timers.turn()
    assert second.heard == [], "there may be room in time"
    desk.timers.advance(2.0)
    assert (first.heard, second.heard) == (["assigned"], ["turned away"])
    assert second.error is not None
    assert second.error.retry_after_s is not None
    assert 3.0 < second.error.retry_after_s < 5.0, "when the first prompt is nearly computed"
    first.leave(1)
    assert desk.is_empty


def test_an_impossible_promise_is_served_late_where_nobody_is_refused() -> None:
    desk = unified(on_infeasible=OnInfeasible.DEMOTE)
    hopeless = desk.apply(5000, ttft_s=0.1)
    desk.timers.turn()
    assert hopeless.heard == ["assigned"]
    hopeless.leave(1)
    assert desk.is_empty


def test_a_retry_goes_to_another_worker_while_there_is_one() -> None:
    desk = unified(2)
    for _ in range(3):
        for avoided_id, other_id in (("u0", "u1"), ("u1", "u0")):
            applicant = desk.apply(500, avoided_ids=frozenset([avoided_id]))
            desk.timers.turn()
            assert applicant.worker_id == other_id
            applicant.leave(1)
            desk.timers.turn()
    desk.registry.remove("u1")
    applicant = desk.apply(500, avoided_ids=frozenset(["u0"]))
    desk.timers.turn()
    assert applicant.worker_id == "u0"
    applicant.leave(1)
    assert desk.is_empty


@pytest.mark.parametrize("roles", [(Role.REGULAR,), PD], ids=["unified", "pd"])
def test_many_that_come_and_go_at_every_stage(roles: tuple[Role, ...]) -> None:
    desk = Desk(plain_scheduler(()), roles=roles)
    for role in roles:
        for index in range(2):
            desk.add_worker(f"{role}-{index}", role)
    applicants = []
    for index in range(200):
        applicants.append(desk.apply(20 + index % 7 * 40, ttft_s=0.2 + index % 5))
        desk.timers.advance(0.02)
        oldest = applicants[0]
        if index % 11 == 0:
            applicants.pop().leave()
        elif oldest.assignments and index % 3:
            desk.dispatcher.prefill_over(oldest.ticket)
            if index % 2:
                applicants.pop(0).leave(20)
    desk.timers.turn()
    for _ in range(200):
        for applicant in [one for one in applicants if one.assignments]:
            applicants.remove(applicant)
            applicant.leave(20)
        desk.timers.advance(0.5)
    assert applicants == []
    assert desk.is_empty
    assert desk.timers.pending == []
