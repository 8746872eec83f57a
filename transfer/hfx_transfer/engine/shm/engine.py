"""The shm backend as an engine.

A peer that has mapped a slab keeps it mapped, so nothing here fails once the peer was reached,
and no byte moves behind anybody's back: whoever asks does the copying. That the owner ended is
noticed at the next `connect` only.
"""

from collections.abc import Sequence
from functools import partial

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.host import shared_memory_identity
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, Ticket
from hfx_transfer.engine.registry import Registry
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.tickets import LocalTicket, News, check_span, refused
from hfx_transfer.engine.workers import CopyWorkers
from hfx_transfer.memory.copying import copy_into, copy_out_of
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.memory.slab import Slab

_LANES = 2


class ShmEngine:
    """Offers slabs that have a shared name, and maps those of other processes.

    Access is a matter of file permissions: processes of the same user, no token. `unregister`
    cannot hide a name; closing the slab does. Peers map a slab that is not writable so that
    nothing they write reaches it; a process of the same user that is no such peer could open it
    by its name and write.

    Raises:
        TransferError: this host has no shared memory (unavailable).
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._num_lanes = settings.lanes or _LANES
        self._registry = Registry()
        self._session = shared_memory_identity()

    @property
    def backend(self) -> Backend:
        """`shm`."""
        return Backend.SHM

    @property
    def transport(self) -> str:
        """`shm`."""
        return "shm"

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Return handles for slabs that have a shared name.

        Raises:
            TransferError: one has none (unavailable), or overlaps another (incompatible).
        """
        handles = [self._handle(slab, writable) for slab in slabs]
        self._registry.add(slabs, writable=writable)
        return handles

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Forget them; those who have a handle can still map them until they are closed."""
        self._registry.remove(slabs)

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> "ShmPeer":
        """Map the slab behind a handle; takes no time, so the limit is never reached.

        Raises:
            TransferError: it is on another host or gone (unreachable), or has another size
                (incompatible).
            ValueError: the handle is another backend's.
        """
        remote = self._attach(handle, writable=handle.is_writable)
        return ShmPeer(remote, self._num_lanes, is_writable=handle.is_writable)

    def map(self, handle: RegionHandle) -> SharedSlab:
        """Return the peer's bytes themselves, without any copy.

        What is written to them stays in this process, page by page. They outlive their owner.
        Raises what `connect` does.
        """
        return self._attach(handle, writable=False)

    def close(self) -> None:
        """Nothing is left running; peers and mapped slabs are closed by who asked for them."""

    def _handle(self, slab: Slab, writable: bool) -> RegionHandle:
        if slab.shared_name is None:
            message = f"a slab of {slab.size_bytes} bytes on {slab.device} is not shared memory"
            raise TransferError(message, fault=TransferFault.UNAVAILABLE)
        return RegionHandle(
            backend=Backend.SHM,
            session=self._session,
            base=0,
            size_bytes=slab.size_bytes,
            is_writable=writable,
            name=slab.shared_name,
        )

    def _attach(self, handle: RegionHandle, *, writable: bool) -> SharedSlab:
        if handle.backend is not Backend.SHM or handle.name is None:
            raise ValueError(f"{handle} names no shared memory")
        if handle.session != self._session:
            message = f"{handle.name} is shared memory of another host or container"
            raise TransferError(message, fault=TransferFault.UNREACHABLE)
        return SharedSlab.attach(handle.name, handle.size_bytes, writable=writable)


class ShmPeer:
    """One slab of another process, mapped, and threads that copy."""

    def __init__(self, remote: SharedSlab, num_lanes: int, *, is_writable: bool) -> None:
        self._news = News()
        self._is_writable = is_writable
        self._remote = remote
        self._mapped: memoryview | None = remote.view()
        self._workers = CopyWorkers(num_lanes)

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> Ticket:
        """Begin one copy. See `Peer.submit`."""
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._remote.size_bytes,
        )
        mapped = self._mapped
        if mapped is None:
            return refused(local, TransferFault.ABORTED)
        if operation is Operation.WRITE and not self._is_writable:
            return refused(local, TransferFault.INCOMPATIBLE)
        ticket = LocalTicket(local, self._news)
        there = mapped[remote_offset : remote_offset + size_bytes]
        move = copy_into if operation is Operation.READ else copy_out_of
        self._workers.submit(ticket, partial(move, local, local_offset, there))
        return ticket

    def wait(self, pause_s: float) -> None:
        """Wait for an end rather than for `pause_s`. See `Peer.wait`."""
        self._news.wait()

    def close(self) -> None:
        """Unmap the slab once the copies under way have ended; does not wait for that."""
        self._mapped = None
        self._workers.close()
        self._remote.close()
