"""The way of one source through a load, as a table."""

from enum import StrEnum


class SourceState(StrEnum):
    """What a source is to a load. The last three are final."""

    CONTACTING = "contacting"
    """Its manifest was asked for."""
    READY = "ready"
    """It holds weights and is not pulled from yet."""
    PULLING = "pulling"
    FINISHED = "finished"
    """It was pulled from until nothing was missing, and confirmed the generation at the end."""
    FAILED = "failed"
    UNUSED = "unused"
    """The load ended without it."""


class SourceEvent(StrEnum):
    """What happens to a source."""

    ANSWERED = "answered"
    CHOSEN = "chosen"
    CONFIRMED = "confirmed"
    BROKE = "broke"
    LEFT_OUT = "left_out"


TRANSITIONS: dict[tuple[SourceState, SourceEvent], SourceState] = {
    (SourceState.CONTACTING, SourceEvent.ANSWERED): SourceState.READY,
    (SourceState.CONTACTING, SourceEvent.BROKE): SourceState.FAILED,
    (SourceState.CONTACTING, SourceEvent.LEFT_OUT): SourceState.UNUSED,
    (SourceState.READY, SourceEvent.CHOSEN): SourceState.PULLING,
    (SourceState.READY, SourceEvent.BROKE): SourceState.FAILED,
    (SourceState.READY, SourceEvent.LEFT_OUT): SourceState.UNUSED,
    (SourceState.PULLING, SourceEvent.CONFIRMED): SourceState.FINISHED,
    (SourceState.PULLING, SourceEvent.BROKE): SourceState.FAILED,
    (SourceState.PULLING, SourceEvent.LEFT_OUT): SourceState.UNUSED,
}

FINAL = frozenset({SourceState.FINISHED, SourceState.FAILED, SourceState.UNUSED})


def next_state(state: SourceState, event: SourceEvent) -> SourceState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"source: event {event} is impossible in state {state}") from None
