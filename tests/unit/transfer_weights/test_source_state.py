import pytest
from hfx_transfer.weights.source_state import (
    FINAL,
    TRANSITIONS,
    SourceEvent,
    SourceState,
    next_state,
)


def test_every_state_but_the_final_ones_can_be_left_and_fail() -> None:
    for state in set(SourceState) - FINAL:
        assert next_state(state, SourceEvent.BROKE) is SourceState.FAILED
        assert next_state(state, SourceEvent.LEFT_OUT) is SourceState.UNUSED
    assert not any(state in FINAL for state, _ in TRANSITIONS)


def test_only_a_confirmed_source_finishes() -> None:
    to_finished = [key for key, state in TRANSITIONS.items() if state is SourceState.FINISHED]
    assert to_finished == [(SourceState.PULLING, SourceEvent.CONFIRMED)]


def test_impossible_event_is_named() -> None:
    with pytest.raises(ValueError, match="event chosen is impossible in state contacting"):
        next_state(SourceState.CONTACTING, SourceEvent.CHOSEN)
