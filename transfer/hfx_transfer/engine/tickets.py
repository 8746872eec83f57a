"""A ticket that a backend of ours fills in, and the check of what a ticket is asked for."""

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import TicketState
from hfx_transfer.memory.slab import Slab


class LocalTicket:
    """One transfer that this process carries out itself; pins its slab until it is final.

    `finish` and `fail` are called once, by the thread that moved the bytes and has stopped
    touching the slab.
    """

    __slots__ = ("_digest", "_fault", "_slab", "_state")

    def __init__(self, slab: Slab) -> None:
        slab.pin()
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
        self._state = TicketState.DONE

    def fail(self, fault: TransferFault) -> None:
        """It is over, and not all bytes are in place."""
        self._fault = fault
        self._slab.unpin()
        self._state = TicketState.FAILED


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
