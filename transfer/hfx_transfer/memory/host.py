"""Host memory of this process alone."""

import contextlib
import ctypes
import mmap

from hfx_transfer.memory.aligned import address_of
from hfx_transfer.memory.pins import PinnedSlab

_MADV_POPULATE_WRITE = 23
"""Linux 5.14; the mmap module does not name it."""


class HostSlab(PinnedSlab):
    """Page-aligned anonymous memory, zeroed by the kernel.

    Views of it keep the mapping alive: after `close` it goes back to the kernel when the last
    memoryview, or torch tensor made of one, is gone.

    Args:
        size_bytes: its length, above 0.
        prefault: have the kernel provide and zero all pages at once, rather than one by one in
            the middle of a transfer.
    """

    def __init__(self, size_bytes: int, *, prefault: bool = False) -> None:
        check_size(size_bytes)
        super().__init__(size_bytes=size_bytes, device="cpu")
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        mapping = mmap.mmap(-1, size_bytes, flags=flags)
        # Before the first touch: a fault per 2 MiB instead of one per 4 KiB, where a kernel can.
        with contextlib.suppress(OSError):
            mapping.madvise(mmap.MADV_HUGEPAGE)
        if prefault:
            prefault_pages(mapping)
        self._mapping: mmap.mmap | None = mapping
        self._address = address_of(mapping)

    @property
    def address(self) -> int:
        """Where it begins, in this process."""
        return self._address

    def view(self) -> memoryview:
        """Return the bytes themselves, writable.

        Raises:
            ValueError: they were given back.
        """
        if self._mapping is None:
            raise ValueError("the slab was closed")
        return memoryview(self._mapping)

    def _release(self) -> None:
        self._mapping = None


def check_size(size_bytes: int) -> None:
    """Refuse a slab of no bytes."""
    if size_bytes < 1:
        raise ValueError(f"size_bytes must be at least 1 ({size_bytes})")


def prefault_pages(mapping: mmap.mmap | memoryview) -> None:
    """Have every page of a writable mapping in place; its bytes stay as they are."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if madvise(address_of(mapping), len(mapping), _MADV_POPULATE_WRITE) != 0:
        # An older kernel. Writing a byte of each page back to itself does it too.
        for offset in range(0, len(mapping), mmap.PAGESIZE):
            mapping[offset] = mapping[offset]
