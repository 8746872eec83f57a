"""Has the kernel move shared memory that is in place onto large pages.

Whoever maps such memory afterwards takes one page fault for 2 MiB instead of one for every few
4 KiB pages. The bytes stay what they are and may be read and written meanwhile.
"""

import ctypes
import errno
import threading

from hfx_transfer.memory.aligned import LARGE_PAGE_BYTES

_MADV_COLLAPSE = 25
"""Linux 6.1. Unlike the settings in /sys, it is for whoever asks, also where those say `never`."""

_BUSY = frozenset((errno.EAGAIN, errno.EBUSY, errno.ENOMEM))
"""Somebody holds a small page at the moment, or there is no large one free."""

_PAUSES_S = (0.1, 0.4, 1.6)
"""Before what was busy is tried again."""


def move_to_large_pages(address: int, size_bytes: int, *, stop: threading.Event) -> int:
    """Move shared memory, all of whose pages are in place, and return how many bytes were moved.

    Takes seconds for each GiB. Returns early when `stop` is set, and soon where the kernel knows
    no such call. What is less than a large page stays where it is.

    Args:
        address: where it begins, a multiple of 2 MiB.
        size_bytes: its length.
        stop: ends this after the page that is under way.
    """
    # Not the method of Python's mappings, which holds the interpreter meanwhile.
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    rest = [
        address + offset for offset in range(0, size_bytes - LARGE_PAGE_BYTES + 1, LARGE_PAGE_BYTES)
    ]
    num_moved = 0
    for pause_s in (*_PAUSES_S, 0.0):
        left, codes = [], set()
        for page in rest:
            if stop.is_set():
                return num_moved * LARGE_PAGE_BYTES
            if madvise(page, LARGE_PAGE_BYTES, _MADV_COLLAPSE) == 0:
                num_moved += 1
            else:
                left.append(page)
                codes.add(ctypes.get_errno())
        rest = left
        if not codes & _BUSY:
            break
        stop.wait(pause_s)
    return num_moved * LARGE_PAGE_BYTES
