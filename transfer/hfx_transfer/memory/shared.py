"""Host memory that other processes of this host map by its name.

It is a file in /dev/shm, readable by its owner's user alone. The owner holds a lock on it, which
the kernel drops when the process ends, whatever ended it: a name whose lock is free is left over
and may be removed. Process ids would not do, as containers that share /dev/shm number their
processes each in its own way.
"""

import contextlib
import fcntl
import mmap
import os
import re
import secrets
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Self

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.aligned import address_of, map_aligned
from hfx_transfer.memory.host import check_size, prefault_pages
from hfx_transfer.memory.large_pages import move_to_large_pages
from hfx_transfer.memory.pins import PinnedSlab

SHARED_MEMORY_FOLDER = Path("/dev/shm")

_PREFIX = "hfx-"
_NAME = re.compile(r"hfx-[0-9a-f]{32}")


class SharedSlab(PinnedSlab):
    """Shared memory, either created by this process or mapped from another.

    `SharedSlab(size)` creates; `SharedSlab.attach(name, ...)` maps. All pages are reserved when it
    is created, so that a full /dev/shm is an error there and not a SIGBUS later.

    Raises:
        TransferError: /dev/shm has no room or cannot be used (unavailable).
    """

    _mapping: memoryview | None
    _unlink: Callable[[], object] | None

    def __init__(self, size_bytes: int) -> None:
        check_size(size_bytes)
        sweep_dead_names()
        try:
            name, fd, mapping = _create(size_bytes)
        except OSError as error:
            message = f"cannot make {size_bytes} bytes of shared memory: {error}"
            raise TransferError(message, fault=TransferFault.UNAVAILABLE) from error
        self._adopt(mapping, fd, name=name)
        self._unlink = weakref.finalize(self, _unlink_own, name, os.getpid())

    @classmethod
    def attach(cls, name: str, size_bytes: int, *, writable: bool = False) -> Self:
        """Map what another process created.

        Args:
            name: its `shared_name`.
            size_bytes: how long it has to be.
            writable: whether what is written here reaches the others. If not, the mapping is
                private: the first write to a page copies it, for this process alone, so that a
                tensor may be made of it and even changed. Such a slab has no `shared_name`.

        Raises:
            TransferError: there is none of that name, its owner is gone (both unreachable), or
                it has another length (incompatible).
        """
        fd = _open_living(name, os.O_RDWR if writable else os.O_RDONLY)
        try:
            found_bytes = os.fstat(fd).st_size
            if found_bytes != size_bytes:
                raise TransferError(
                    f"shared memory {name} has {found_bytes} bytes, not {size_bytes}",
                    fault=TransferFault.INCOMPATIBLE,
                )
            flags = mmap.MAP_SHARED if writable else mmap.MAP_PRIVATE
            mapping = map_aligned(fd, size_bytes, flags=flags)
        except BaseException:
            os.close(fd)
            raise
        slab = cls.__new__(cls)
        slab._adopt(mapping, fd, name=name if writable else None)
        return slab

    def _adopt(self, mapping: memoryview, fd: int, *, name: str | None) -> None:
        super().__init__(size_bytes=len(mapping), device="cpu")
        self._mapping = mapping
        self._address = address_of(mapping)
        self._name = name
        self._unlink = None
        self._close_fd = weakref.finalize(self, os.close, fd)

    @property
    def address(self) -> int:
        """Where it begins, in this process."""
        return self._address

    @property
    def shared_name(self) -> str | None:
        """Its name; None when writes to it stay in this process."""
        return self._name

    def view(self) -> memoryview:
        """Return the bytes themselves, writable.

        Raises:
            ValueError: they were given back.
        """
        if self._mapping is None:
            raise ValueError("the slab was closed")
        return self._mapping[:]

    def move_to_large_pages(self, *, stop: threading.Event) -> int:
        """Have it mapped faster by others; return how many bytes were moved. Takes a while.

        To be called while it is pinned. See `memory.large_pages`.
        """
        return move_to_large_pages(self._address, self.size_bytes, stop=stop)

    def _hide(self) -> None:
        if self._unlink is not None:
            self._unlink()

    def _release(self) -> None:
        self._mapping = None
        self._close_fd()


def sweep_dead_names() -> int:
    """Remove what processes that ended left in /dev/shm; return how many names that were.

    Those of other users are left alone, and so is what a child forked by its owner still holds.
    """
    num_removed = 0
    for path in SHARED_MEMORY_FOLDER.glob(f"{_PREFIX}*"):
        if not _NAME.fullmatch(path.name):
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            num_removed += _remove_if_dead(fd, path)
        finally:
            os.close(fd)
    return num_removed


def _create(size_bytes: int) -> tuple[str, int, memoryview]:
    while True:
        name = f"{_PREFIX}{secrets.token_hex(16)}"
        path = SHARED_MEMORY_FOLDER / name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            # A sweep of another process may have come between creation and lock.
            if os.fstat(fd).st_nlink == 0:
                os.close(fd)
                continue
            os.posix_fallocate(fd, 0, size_bytes)
            mapping = map_aligned(fd, size_bytes, flags=mmap.MAP_SHARED)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            os.close(fd)
            raise
        prefault_pages(mapping)
        return name, fd, mapping


def _open_living(name: str, access: int) -> int:
    if not _NAME.fullmatch(name):
        raise TransferError(f"{name!r} names no shared memory", fault=TransferFault.UNREACHABLE)
    path = SHARED_MEMORY_FOLDER / name
    try:
        fd = os.open(path, access | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        message = f"cannot open shared memory {name}: {error.strerror}"
        raise TransferError(message, fault=TransferFault.UNREACHABLE) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode) or _remove_if_dead(fd, path):
        os.close(fd)
        message = f"the owner of shared memory {name} is gone"
        raise TransferError(message, fault=TransferFault.UNREACHABLE)
    return fd


def _remove_if_dead(fd: int, path: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    with contextlib.suppress(OSError):
        path.unlink()
    return True


def _unlink_own(name: str, owner_pid: int) -> None:
    # A forked child inherits the finaliser, but not the name.
    if os.getpid() == owner_pid:
        with contextlib.suppress(OSError):
            (SHARED_MEMORY_FOLDER / name).unlink()
