"""The file backend as an engine. It reads; it offers nothing and writes nothing.

There is no progress timeout: the kernel reads pages for us, tells of none before the last, and a
read of a disk or server that hangs cannot be interrupted. A ticket on such a file runs until the
kernel gives up, and its slab stays pinned.
"""

import os
import stat
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.host import boot_identity
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, Ticket
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.tickets import LocalTicket, News, check_span
from hfx_transfer.engine.workers import CopyWorkers
from hfx_transfer.memory.copying import STAGE_BYTES, copy_into, is_host, new_stage
from hfx_transfer.memory.slab import Slab

_LANES = 2


def file_handle(path: Path) -> RegionHandle:
    """Return a handle to a whole file, for any process that can open it by its absolute path.

    Raises:
        TransferError: there is no such file, or it is empty or not a regular one (unreachable).
    """
    resolved = path.resolve()
    try:
        status = resolved.stat()
    except OSError as error:
        raise _unreachable(resolved, str(error.strerror)) from error
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        raise _unreachable(resolved, "not a regular file with bytes in it")
    return RegionHandle(
        backend=Backend.FILE,
        session=boot_identity(),
        base=0,
        size_bytes=status.st_size,
        is_writable=False,
        name=str(resolved),
    )


class FileEngine:
    """Reads files as if they were slabs of a peer.

    Whether a handle's path leads to the same file here is for its digests to say.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._num_lanes = settings.lanes or _LANES

    @property
    def backend(self) -> Backend:
        """`file`."""
        return Backend.FILE

    @property
    def transport(self) -> str:
        """`file`."""
        return "file"

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Memory is no file: any slab is refused.

        Raises:
            TransferError: always, if there are slabs (unavailable).
        """
        if slabs:
            message = "the file backend offers no memory; file_handle names a file"
            raise TransferError(message, fault=TransferFault.UNAVAILABLE)
        return []

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Nothing was registered."""

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> "FilePeer":
        """Open the file. The limit has no effect on an open that hangs.

        Raises:
            TransferError: it cannot be opened (unreachable) or has another length (incompatible).
            ValueError: the handle is another backend's.
        """
        if handle.backend is not Backend.FILE or handle.name is None:
            raise ValueError(f"{handle} names no file")
        path = Path(handle.name)
        try:
            file = _OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise _unreachable(path, str(error.strerror)) from error
        found_bytes = os.fstat(file.fd).st_size
        if found_bytes != handle.size_bytes:
            message = f"{path} has {found_bytes} bytes, not {handle.size_bytes}"
            raise TransferError(message, fault=TransferFault.INCOMPATIBLE)
        return FilePeer(file, handle.size_bytes, self._num_lanes)

    def close(self) -> None:
        """Nothing is left running; peers are closed by who asked for them."""


class FilePeer:
    """An open file, and threads that read it."""

    def __init__(self, file: "_OpenFile", size_bytes: int, num_lanes: int) -> None:
        self._news = News()
        self._file = file
        self._size_bytes = size_bytes
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
        """Begin to read. See `Peer.submit`."""
        if operation is Operation.WRITE:
            raise ValueError("the file backend does not write")
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._size_bytes,
        )
        ticket = LocalTicket(local, self._news)
        read = partial(_read, self._file, remote_offset, local, local_offset, size_bytes)
        self._workers.submit(ticket, read)
        return ticket

    def wait(self, pause_s: float) -> None:
        """Wait for an end rather than for `pause_s`. See `Peer.wait`."""
        self._news.wait()

    def close(self) -> None:
        """Close the file once the reads under way have ended; does not wait for that."""
        self._workers.close()


class _OpenFile:
    """A descriptor that is closed when the peer and all reads have let go of it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        weakref.finalize(self, os.close, fd)


def _read(
    file: _OpenFile, file_offset: int, local: Slab, local_offset: int, size_bytes: int
) -> None:
    if is_host(local):
        _fill(local.view()[local_offset : local_offset + size_bytes], file, file_offset)
        return
    stage = new_stage(local)
    for done_bytes in range(0, size_bytes, STAGE_BYTES):
        part = stage[: min(STAGE_BYTES, size_bytes - done_bytes)]
        _fill(part, file, file_offset + done_bytes)
        copy_into(local, local_offset + done_bytes, part)


def _fill(target: memoryview, file: _OpenFile, file_offset: int) -> None:
    while target.nbytes:
        try:
            num_bytes = os.preadv(file.fd, [target], file_offset)
        except OSError as error:
            message = f"cannot read: {error.strerror}"
            raise TransferError(message, fault=TransferFault.PEER_FAILED) from error
        if num_bytes == 0:
            message = "the file became shorter"
            raise TransferError(message, fault=TransferFault.PEER_FAILED)
        target = target[num_bytes:]
        file_offset += num_bytes


def _unreachable(path: Path, reason: str) -> TransferError:
    return TransferError(f"cannot read {path}: {reason}", fault=TransferFault.UNREACHABLE)
