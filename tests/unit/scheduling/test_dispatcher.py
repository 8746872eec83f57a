"""The dispatcher with a scheduler that decides what the test says."""

import pytest
from hfx_router.scheduling.dispatcher import NO_WORKERS_RETRY_AFTER_S
from support.dispatching import Desk, ScriptedScheduler, dispatch, recall, rejection

from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.types import Role

PD = (Role.PREFILL, Role.DECODE)
REPORT = WorkerReport(
    num_prefill_tokens=0, prefill_busy_s=0.0, decode_moments=(), mean_context_tokens=0.0
)


@pytest.fixture
def scheduler() -> ScriptedScheduler:
    return ScriptedScheduler()


@pytest.fixture
def desk(scheduler: ScriptedScheduler) -> Desk:
    """One unified worker, and the turn in which it joined is over."""
    desk = Desk(scheduler)
    desk.add_worker("u0")
    desk.timers.turn()
    return desk


# --- when it decides ---


def test_what_happens_in_one_turn_is_decided_about_once(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    before, mark = scheduler.num_decided, len(scheduler.heard)
    first, second = desk.apply(), desk.apply()
    desk.dispatcher.report("u0", REPORT)
    desk.dispatcher.prefill_over(first.ticket)
    second.leave()
    assert scheduler.num_decided == before, "the turn is not over"
    assert [what for what, *_ in scheduler.told_since(mark)] == [
        "arrive", "arrive", "report", "prefill_over", "over",
    ]  # fmt: skip
    desk.timers.turn()
    assert scheduler.num_decided == before + 1
    desk.timers.turn()
    assert scheduler.num_decided == before + 1, "nothing has happened"


@pytest.mark.parametrize("event", ["apply", "over", "prefill_over", "report", "worker"])
def test_each_event_leads_to_a_decision(
    desk: Desk, scheduler: ScriptedScheduler, event: str
) -> None:
    applicant = desk.apply()
    desk.timers.turn()
    before = scheduler.num_decided
    if event == "apply":
        desk.apply()
    elif event == "over":
        applicant.leave()
    elif event == "prefill_over":
        desk.dispatcher.prefill_over(applicant.ticket)
    elif event == "report":
        desk.dispatcher.report("u0", REPORT)
    else:
        desk.add_worker("u1")
    desk.timers.turn()
    assert scheduler.num_decided == before + 1


def test_the_scheduler_hears_the_time_and_the_length_of_a_whole_answer(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    whole, cut = desk.apply(), desk.apply()
    desk.clock.advance(1.5)
    desk.dispatcher.prefill_over(whole.ticket)
    desk.clock.advance(1.0)
    whole.leave(17, 0.6)
    cut.leave()
    assert scheduler.heard[-3:] == [
        ("prefill_over", whole.ticket, 101.5),
        ("over", whole.ticket, 102.5, 17, 0.6),
        ("over", cut.ticket, 102.5, None, None),
    ]


def test_it_decides_when_the_scheduler_wants_to_though_nothing_happens(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    desk.apply()
    scheduler.next_at_s = 100.4
    desk.timers.turn()
    before = scheduler.num_decided
    desk.timers.advance(0.39)
    assert scheduler.num_decided == before
    scheduler.next_at_s = 101.0
    desk.timers.advance(0.02)
    assert scheduler.num_decided == before + 1
    scheduler.next_at_s = float("inf")
    desk.timers.advance(1.0)
    assert scheduler.num_decided == before + 2
    assert desk.timers.pending == []


def test_an_alarm_that_is_set_for_the_same_instant_stays(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    scheduler.next_at_s = 100.4
    for _ in range(3):
        desk.apply()
        desk.timers.turn()
    assert [alarm.at_s for alarm in desk.timers.alarms] == [pytest.approx(100.4)]


def test_an_alarm_moves_and_goes(desk: Desk, scheduler: ScriptedScheduler) -> None:
    applicant = desk.apply()
    scheduler.next_at_s = 100.4
    desk.timers.turn()
    scheduler.next_at_s = 100.2
    desk.apply()
    desk.timers.turn()
    assert [alarm.at_s for alarm in desk.timers.pending] == [pytest.approx(100.2)]
    scheduler.next_at_s = float("inf")
    applicant.leave()
    desk.timers.turn()
    assert desk.timers.pending == []


def test_an_alarm_in_a_turn_that_decides_anyway_waits_for_its_end(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    desk.apply()
    scheduler.next_at_s = 100.4
    desk.timers.turn()
    before = scheduler.num_decided
    desk.apply()
    [alarm] = desk.timers.pending
    alarm.cancel()
    alarm.callback()
    assert scheduler.num_decided == before
    desk.timers.turn()
    assert scheduler.num_decided == before + 1
    assert len(desk.timers.pending) == 1, "the alarm is set again, as it rang for nothing"


def test_a_closed_dispatcher_sets_off_no_alarm(desk: Desk, scheduler: ScriptedScheduler) -> None:
    desk.apply()
    scheduler.next_at_s = 100.4
    desk.timers.turn()
    desk.dispatcher.close()
    assert desk.timers.pending == []


# --- what becomes of requests ---


def test_who_is_sent_hears_who_serves(scheduler: ScriptedScheduler) -> None:
    desk = Desk(scheduler, roles=PD)
    prefill = desk.add_worker("p0", Role.PREFILL)
    decode = desk.add_worker("d0", Role.DECODE)
    sent, waiting = desk.apply(), desk.apply()
    scheduler.next_actions = [dispatch(sent, "d0", "p0")]
    desk.timers.turn()
    [assignment] = sent.assignments
    assert (assignment.worker, assignment.prefill, assignment.priority) == (decode, prefill, -7)
    assert waiting.heard == []
    assert [decision.request_id for decision in desk.decisions] == [sent.ticket]
    sent.leave(5)
    waiting.leave()
    assert desk.is_empty


def test_who_is_rejected_hears_when_to_come_again(desk: Desk, scheduler: ScriptedScheduler) -> None:
    applicant = desk.apply()
    scheduler.next_actions = [rejection(applicant, 2.5)]
    mark = len(scheduler.heard)
    desk.timers.turn()
    assert applicant.heard == ["turned away"]
    error = applicant.error
    assert error is not None
    assert (error.http_status, error.code, error.retry_after_s) == (429, "slo_infeasible", 2.5)
    assert [decision.reason for decision in desk.decisions] == [Reason.INFEASIBLE]
    # It left when it was turned away; the scheduler had let go of it, and is not told.
    assert scheduler.told_since(mark) == [("arrive", applicant.ticket)][1:]
    applicant.leave()
    assert scheduler.told_since(mark) == []
    assert desk.is_empty


def test_who_is_recalled_waits_and_is_sent_again(desk: Desk, scheduler: ScriptedScheduler) -> None:
    second_worker = desk.add_worker("u1")
    applicant = desk.apply()
    scheduler.next_actions = [dispatch(applicant, "u0")]
    desk.timers.turn()
    scheduler.next_actions = [recall(applicant), dispatch(applicant, "u1")]
    desk.dispatcher.report("u0", REPORT)
    desk.timers.turn()
    assert applicant.heard == ["assigned", "recalled", "assigned"]
    assert applicant.assignments[-1].worker is second_worker
    applicant.leave(3)
    assert desk.is_empty


def test_who_was_recalled_may_leave_while_it_waits(
    desk: Desk, scheduler: ScriptedScheduler
) -> None:
    applicant = desk.apply()
    scheduler.next_actions = [dispatch(applicant)]
    desk.timers.turn()
    scheduler.next_actions = [recall(applicant)]
    desk.dispatcher.report("u0", REPORT)
    desk.timers.turn()
    applicant.leave()
    assert scheduler.heard[-1] == ("over", applicant.ticket, 100.0, None, None)
    assert desk.is_empty


def test_leaving_twice_is_told_once(desk: Desk, scheduler: ScriptedScheduler) -> None:
    applicant = desk.apply()
    applicant.leave()
    applicant.leave()
    assert [what for what, *_ in scheduler.heard].count("over") == 1


def test_tickets_differ(desk: Desk) -> None:
    assert len({desk.dispatcher.draw_ticket() for _ in range(100)}) == 100


# --- a pool without usable workers ---


@pytest.mark.parametrize("missing", PD)
def test_waiting_requests_are_refused_when_a_pool_has_nobody_left(
    scheduler: ScriptedScheduler, missing: Role
) -> None:
    desk = Desk(scheduler, roles=PD)
    workers = {role: desk.add_worker(f"{role}-0", role) for role in PD}
    sent, waiting = desk.apply(), desk.apply()
    scheduler.next_actions = [dispatch(sent, "decode-0", "prefill-0")]
    desk.timers.turn()
    assert desk.dispatcher.missing_role() is None
    desk.registry.record_check(workers[missing], False)
    assert desk.dispatcher.missing_role() is missing
    assert sent.heard == ["assigned"], "what is on its way goes on"
    assert waiting.heard == ["turned away"], "at once"
    error = waiting.error
    assert error is not None
    assert (error.http_status, error.retry_after_s) == (503, NO_WORKERS_RETRY_AFTER_S)
    assert f"no {missing} worker" in error.message
    assert scheduler.heard[-1] == ("over", waiting.ticket, 100.0, None, None)
    sent.leave(1)
    assert desk.is_empty


def test_one_worker_less_refuses_nobody(desk: Desk) -> None:
    desk.add_worker("u1")
    applicant = desk.apply()
    desk.registry.remove("u1")
    assert applicant.heard == []


def test_nobody_is_recalled_into_an_empty_pool(desk: Desk, scheduler: ScriptedScheduler) -> None:
    """A worker that hangs fails its health checks, and then what it has is taken back."""
    applicant = desk.apply()
    scheduler.next_actions = [dispatch(applicant)]
    desk.timers.turn()
    desk.registry.record_check(desk.registry.workers[0], False)
    scheduler.next_actions = [recall(applicant)]
    desk.timers.turn()
    assert applicant.heard == ["assigned", "recalled", "turned away"]
    assert applicant.error is not None
    assert applicant.error.http_status == 503
    assert desk.is_empty
