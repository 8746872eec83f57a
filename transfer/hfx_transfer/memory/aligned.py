"""Maps a file where a large page may begin; Python's own mappings begin at any 4 KiB."""

import ctypes
import mmap
import os

LARGE_PAGE_BYTES = 2 << 20

_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value


def map_aligned(fd: int, size_bytes: int, *, flags: int) -> memoryview:
    """Map a file for reading and writing; the mapping goes when the last view of it is gone.

    Args:
        fd: of the file; may be closed afterwards.
        size_bytes: how much of it, above 0.
        flags: `mmap.MAP_SHARED` or `mmap.MAP_PRIVATE`.

    Raises:
        OSError: the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    # The file is laid into a range that Python owns, and is unmapped with it.
    room = mmap.mmap(-1, size_bytes + LARGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE)
    offset = -address_of(room) % LARGE_PAGE_BYTES
    access = mmap.PROT_READ | mmap.PROT_WRITE
    address = address_of(room) + offset
    if libc.mmap(address, size_bytes, access, flags | _MAP_FIXED, fd, 0) == _MAP_FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return memoryview(room)[offset : offset + size_bytes]


def address_of(mapping: mmap.mmap | memoryview) -> int:
    """Return where writable bytes begin."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))
