"""The states of a hand-off on the receiving side: a table, and what it says about the pages."""

from enum import StrEnum


class IncomingState(StrEnum):
    """Where a hand-off stands, and with it who may touch its pages."""

    OPEN = "open"
    """Pages are reserved; no sender knows them."""
    RECEIVING = "receiving"
    """A sender has the ticket and writes."""
    VERIFYING = "verifying"
    """All transfers have ended well; the digests are being checked."""
    ARRIVED = "arrived"
    """Verified; the pages belong to whoever opened the hand-off."""
    STOPPING = "stopping"
    """Given up; the sender has not yet said that its transfers have ended."""
    LOST = "lost"
    """The sender's connection broke before it said so; it may live and write."""
    DRAINING = "draining"
    """The sender begins nothing any more; bytes on their way may still land."""
    FREED = "freed"
    """Over; the pages have gone back."""


class IncomingEvent(StrEnum):
    """What moves a hand-off."""

    ATTACHED = "attached"
    """A sender asked for the ticket."""
    COMMITTED = "committed"
    """The sender: everything is written, every transfer ended well."""
    VERIFIED = "verified"
    REFUTED = "refuted"
    """Count or digests are wrong."""
    ENDED = "ended"
    """Abort by either side, the deadline, or the owner has no more use for the pages."""
    SETTLED_CLEAN = "settled_clean"
    """The sender: I give up; each transfer that I began ended well."""
    SETTLED_DIRTY = "settled_dirty"
    """The sender: I give up; all transfers have ended, and some failed."""
    SENDER_LOST = "sender_lost"
    """Its connection broke."""
    SENDER_DIED = "sender_died"
    """Its process is known to be gone."""
    HOLD_OVER = "hold_over"
    """Nothing can be on its way any more."""


_S, _E = IncomingState, IncomingEvent

TRANSITIONS: dict[tuple[IncomingState, IncomingEvent], IncomingState] = {
    (_S.OPEN, _E.ATTACHED): _S.RECEIVING,
    (_S.OPEN, _E.ENDED): _S.FREED,
    (_S.RECEIVING, _E.COMMITTED): _S.VERIFYING,
    (_S.RECEIVING, _E.ENDED): _S.STOPPING,
    (_S.RECEIVING, _E.SETTLED_CLEAN): _S.FREED,
    (_S.RECEIVING, _E.SETTLED_DIRTY): _S.DRAINING,
    (_S.RECEIVING, _E.SENDER_LOST): _S.LOST,
    # From here on the sender has nothing under way, whatever becomes of it.
    (_S.VERIFYING, _E.VERIFIED): _S.ARRIVED,
    (_S.VERIFYING, _E.REFUTED): _S.FREED,
    (_S.VERIFYING, _E.ENDED): _S.FREED,
    (_S.VERIFYING, _E.SENDER_LOST): _S.VERIFYING,
    (_S.ARRIVED, _E.ENDED): _S.FREED,
    (_S.ARRIVED, _E.SENDER_LOST): _S.ARRIVED,
    # A commit that crossed our abort proves as much as a settlement.
    (_S.STOPPING, _E.COMMITTED): _S.FREED,
    (_S.STOPPING, _E.SETTLED_CLEAN): _S.FREED,
    (_S.STOPPING, _E.SETTLED_DIRTY): _S.DRAINING,
    (_S.STOPPING, _E.ENDED): _S.STOPPING,
    (_S.STOPPING, _E.SENDER_LOST): _S.LOST,
    # It may come back and settle, or turn out to be dead.
    (_S.LOST, _E.SETTLED_CLEAN): _S.FREED,
    (_S.LOST, _E.SETTLED_DIRTY): _S.DRAINING,
    (_S.LOST, _E.ENDED): _S.LOST,
    (_S.LOST, _E.SENDER_LOST): _S.LOST,
    (_S.LOST, _E.SENDER_DIED): _S.DRAINING,
    (_S.DRAINING, _E.HOLD_OVER): _S.FREED,
    (_S.DRAINING, _E.ENDED): _S.DRAINING,
    (_S.DRAINING, _E.SENDER_LOST): _S.DRAINING,
}

IN_FLIGHT = frozenset({_S.RECEIVING, _S.STOPPING, _S.LOST, _S.DRAINING})
"""States in which bytes of a sender may still land in the pages."""

QUARANTINED = frozenset({_S.STOPPING, _S.LOST, _S.DRAINING})
"""Those of them in which nobody waits for the bytes any more."""


def next_state(state: IncomingState, event: IncomingEvent) -> IncomingState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"KV receiver: event {event} is impossible in state {state}") from None
