"""The states of a hand-off on the sending side: a table."""

from enum import StrEnum


class OutgoingState(StrEnum):
    """Where a hand-off stands."""

    ASKING = "asking"
    """The receiver has not yet said where to write; nothing was begun."""
    PUSHING = "pushing"
    """Pages are being written, or will be once the prefill has them."""
    COMMITTED = "committed"
    """All is written; the receiver verifies."""
    STOPPING = "stopping"
    """Given up; transfers that were begun are still under way."""
    ACCEPTED = "accepted"
    """Over: the receiver has verified."""
    ENDED = "ended"
    """Over without success; nothing is under way."""


class OutgoingEvent(StrEnum):
    """What moves a hand-off."""

    TICKET = "ticket"
    """The receiver said where to write."""
    ALL_WRITTEN = "all_written"
    """The last chunk was pushed, and every transfer ended well."""
    STOPPED = "stopped"
    """Abort by either side, a failed transfer, or the connection broke."""
    SETTLED = "settled"
    """No transfer is under way any more."""
    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The receiver did not want it, or found it wrong."""


_S, _E = OutgoingState, OutgoingEvent

TRANSITIONS: dict[tuple[OutgoingState, OutgoingEvent], OutgoingState] = {
    (_S.ASKING, _E.TICKET): _S.PUSHING,
    (_S.ASKING, _E.REFUSED): _S.ENDED,
    (_S.ASKING, _E.STOPPED): _S.ENDED,
    (_S.PUSHING, _E.ALL_WRITTEN): _S.COMMITTED,
    (_S.PUSHING, _E.STOPPED): _S.STOPPING,
    (_S.STOPPING, _E.STOPPED): _S.STOPPING,
    (_S.STOPPING, _E.SETTLED): _S.ENDED,
    (_S.COMMITTED, _E.ACCEPTED): _S.ACCEPTED,
    (_S.COMMITTED, _E.REFUSED): _S.ENDED,
    (_S.COMMITTED, _E.STOPPED): _S.ENDED,
}

OVER = frozenset({_S.ACCEPTED, _S.ENDED})
"""Nothing reads the sender's pages any more."""


def next_state(state: OutgoingState, event: OutgoingEvent) -> OutgoingState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"KV sender: event {event} is impossible in state {state}") from None
