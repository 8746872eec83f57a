"""What the two tables say, and that every state can be left."""

import pytest
from hfx_transfer.kv import receiver_states, sender_states
from hfx_transfer.kv.receiver_states import IN_FLIGHT, QUARANTINED, IncomingEvent, IncomingState
from hfx_transfer.kv.sender_states import OVER, OutgoingEvent, OutgoingState


def _reachable(table: dict, start: object) -> set[object]:  # type: ignore[type-arg]
    found, left = {start}, [start]
    while left:
        at = left.pop()
        for (state, _), leads_to in table.items():
            if state is at and leads_to not in found:
                found.add(leads_to)
                left.append(leads_to)
    return found


def test_every_state_is_reached_and_can_come_to_its_end() -> None:
    table = receiver_states.TRANSITIONS
    assert _reachable(table, IncomingState.OPEN) == set(IncomingState)
    for state in IncomingState:
        assert IncomingState.FREED in _reachable(table, state)
    outgoing = sender_states.TRANSITIONS
    assert _reachable(outgoing, OutgoingState.ASKING) == set(OutgoingState)
    for other in OutgoingState:
        assert OVER & _reachable(outgoing, other)


def test_what_is_over_stays_over() -> None:
    assert not [state for state, _ in receiver_states.TRANSITIONS if state is IncomingState.FREED]
    assert not [state for state, _ in sender_states.TRANSITIONS if state in OVER]


PROOFS = {
    IncomingEvent.COMMITTED, IncomingEvent.SETTLED_CLEAN, IncomingEvent.SETTLED_DIRTY,
    IncomingEvent.HOLD_OVER,
}  # fmt: skip


def test_pages_leave_flight_only_by_a_proof_that_nobody_writes() -> None:
    for (state, event), leads_to in receiver_states.TRANSITIONS.items():
        if state in IN_FLIGHT and leads_to not in IN_FLIGHT:
            assert event in PROOFS, (state, event)
    assert QUARANTINED < IN_FLIGHT


def test_a_hand_off_can_be_given_up_in_every_state_but_the_last() -> None:
    for state in set(IncomingState) - {IncomingState.FREED}:
        assert (state, IncomingEvent.ENDED) in receiver_states.TRANSITIONS
    for other in set(OutgoingState) - OVER:
        assert (other, OutgoingEvent.STOPPED) in sender_states.TRANSITIONS


def test_what_is_impossible_is_said_with_state_and_event() -> None:
    with pytest.raises(ValueError, match="verified is impossible in state open"):
        receiver_states.next_state(IncomingState.OPEN, IncomingEvent.VERIFIED)
    with pytest.raises(ValueError, match="accepted is impossible in state asking"):
        sender_states.next_state(OutgoingState.ASKING, OutgoingEvent.ACCEPTED)
