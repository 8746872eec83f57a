"""A ticket that a backend of ours fills in, and the check of what a ticket is asked for."""

import threading

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import TicketState
from hfx_transfer.memory.slab import Slab

_LONGEST_WAIT_S = 0.02
"""For who waits for something else as well, and looks at it between two waits."""


class News:
    """Rings when one of a peer's tickets is final. For one thread that waits."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        """Wake who waits, or who will."""
        self._rung.set()

    def wait(self) -> None:
        """Wait for what rang since the last time, or not for long."""
        self._rung.wait(_LONGEST_WAIT_S)
        self._rung.clear()


class LocalTicket:
    """One transfer that this process carries out itself; pins its slab until it is final.

    `finish` and `fail` are called once, by the thread that moved the bytes and has stopped
    touching the slab. `news` rings then.
    """

    __slots__ = ("_digest", "_fault", "_news", "_slab", "_state")

    def __init__(self, slab: Slab, news: News | None = None) -> None:
        slab.pin()
        self._news = news
        self._slab = slab
        self._state = TicketState.RUNNING
        self._fault: TransferFault | None = None
        self._digest: str | None = None

    @property
    def fault(self) -> TransferFault | None:
        """Why it failed; None unless it did."""
        return self._fault

    @property
    def digest(self) -> str | None:
        """What `finish` was told."""
        return self._digest

    def poll(self) -> TicketState:
        """Return where it stands, without waiting."""
        return self._state

    def finish(self, digest: str | None = None) -> None:
        """All bytes are in place, and have this digest where one was computed."""
        self._digest = digest
        self._slab.unpin()
        self._end(TicketState.DONE)

    def fail(self, fault: TransferFault) -> None:
        """It is over, and not all bytes are in place."""
        self._fault = fault
        self._slab.unpin()
        self._end(TicketState.FAILED)

    def _end(self, state: TicketState) -> None:
        self._state = state
        if self._news is not None:
            self._news.ring()


def refused(slab: Slab, fault: TransferFault) -> LocalTicket:
    """Return the ticket of a transfer that does not begin."""
    ticket = LocalTicket(slab)
    ticket.fail(fault)
    return ticket


def check_span(
    local: Slab, *, local_offset: int, remote_offset: int, size_bytes: int, remote_size_bytes: int
) -> None:
    """Refuse a transfer that has no bytes or reaches outside of either slab.

    Raises:
        ValueError: it does; the message has both ranges.
    """
    ends = ((local_offset, local.size_bytes), (remote_offset, remote_size_bytes))
    if size_bytes < 1 or any(offset < 0 or offset + size_bytes > size for offset, size in ends):
        raise ValueError(
            f"{size_bytes} bytes at {local_offset} of {local.size_bytes} here and at "
            f"{remote_offset} of {remote_size_bytes} there: no such span"
        )
