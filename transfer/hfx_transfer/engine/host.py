"""Tells one host, and one /dev/shm of it, from another."""

import os
from pathlib import Path

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.shared import SHARED_MEMORY_FOLDER

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_identity() -> str:
    """Return what is the same for all processes under one kernel, until it boots again."""
    return _BOOT_ID.read_text().strip()


def shared_memory_identity() -> str:
    """Return what two processes have in common when one can map what the other shares.

    The kernel's boot, and the file system mounted at /dev/shm: containers of one host have each
    their own, unless told otherwise.

    Raises:
        TransferError: there is no /dev/shm here (unavailable).
    """
    try:
        return f"{boot_identity()}:{os.stat(SHARED_MEMORY_FOLDER).st_dev:x}"
    except OSError as error:
        message = f"no shared memory on this host: {error}"
        raise TransferError(message, fault=TransferFault.UNAVAILABLE) from error
