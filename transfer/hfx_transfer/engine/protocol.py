"""What every backend offers: register memory, reach a peer, read and write, know when it is over.

Nothing here waits without a limit, and nothing is cancelled: a transfer that began ends on its
own, done or failed, and until then its memory stays pinned. `hfx_transfer.engine.window` drives
many of them.

A ticket speaks for the memory of the side that asked. After a read has ended, however it did,
nothing lands here any more. After a write has failed, bytes that were sent before may still land
at the peer, later than anybody would wait: over Mooncake, a peer that was stopped takes them out
of its socket when it goes on. Whoever lets others write keeps the pages of a failed write aside;
`hfx_transfer.kv` shows for how long.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from hfx_sgl.errors import TransferFault
from hfx_transfer.memory.slab import Slab


class Backend(StrEnum):
    """The ways bytes can take."""

    MOONCAKE = "mooncake"
    """Mooncake's transfer engine: across hosts, device memory where its wheel was built for it."""
    SHM = "shm"
    """Memory that processes of one host share."""
    SOCKET = "socket"
    """TCP in pure Python."""
    FILE = "file"
    """A file that both sides can open; reading only."""


class RegionHandle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a peer reaches one registered slab. Travels as JSON."""

    backend: Backend
    session: str
    """Whom to ask: `host:port` for mooncake and socket, the host's identity for shm and file."""
    base: int
    """Where the slab begins: its address for mooncake, an id for socket, 0 else."""
    size_bytes: int
    is_writable: bool
    """Whether peers may write to it, too. Only the side that offers it can hold others to that;
    see the backends for which of them do."""
    name: str | None = None
    """The shared memory's name or the file's path; None for mooncake and socket."""


class TicketState(StrEnum):
    """Where one transfer stands. DONE and FAILED are final."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Operation(StrEnum):
    """Which way bytes move, seen from the side that asks."""

    READ = "read"
    WRITE = "write"


class Ticket(Protocol):
    """One transfer under way; owned by who submitted it."""

    @property
    def fault(self) -> TransferFault | None:
        """Why it failed; None unless it did."""
        ...

    @property
    def digest(self) -> str | None:
        """The xxh3_128 of what was read, 32 hexadecimal digits; None where none was computed.

        A backend computes it when it sees the bytes while they are in the processor's cache.
        """
        ...

    def poll(self) -> TicketState:
        """Return where it stands, without waiting; a final state is returned for ever."""
        ...


class Peer(Protocol):
    """The other side, once reached, and one slab of it."""

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> Ticket:
        """Begin one transfer; a refusal is a ticket that has failed already.

        A write to a slab that is offered for reading only fails as incompatible. Offsets count
        bytes from the beginning of either slab. The local slab is pinned until the ticket is
        final.

        Raises:
            ValueError: the span lies outside of a slab, or the backend cannot write.
        """
        ...

    def wait(self, pause_s: float) -> None:
        """Let time pass between two polls of the tickets of this peer, in the one thread that does.

        That is `pause_s`, or where the backend is told of it, the time until one of them ends, of
        which it waits for a few hundredths of a second at most: who is woken less often leaves
        more of the processor to those who move bytes.
        """
        ...

    def close(self) -> None:
        """Let go of the peer; transfers under way end on their own."""
        ...


class TransferEngine(Protocol):
    """One backend, started. Usable from several threads; closed once, by its owner."""

    @property
    def backend(self) -> Backend:
        """Which one this is."""
        ...

    @property
    def transport(self) -> str:
        """What moves the bytes in truth, for people and metrics: `tcp`, `rdma`, `ascend`, ..."""
        ...

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Let peers reach these slabs, each as a whole; all or none.

        Args:
            slabs: what they reach.
            writable: whether they may write there, or only read.

        Raises:
            TransferError: a slab overlaps a registered one, or this backend cannot offer it.
        """
        ...

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Let no new transfer reach them; those under way may still end."""
        ...

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> Peer:
        """Reach the peer that offers `handle`, within the limit.

        Raises:
            TransferError: nobody is there (unreachable), somebody says nothing
                (first_contact_timeout) or something else (protocol).
        """
        ...

    def close(self) -> None:
        """Stop. The caller has seen all its tickets final."""
        ...
