"""What one measured run in a child reports."""

import os
import time
from collections.abc import Callable

import msgspec
from transfer_bench.accounting import cpu_s_of, disk_bytes


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One way, once."""

    began_at_s: float
    """On the clock that all processes of the machine share."""
    seconds: float
    cpu_s: float
    """Processor time of this side alone."""
    disk_bytes: int
    """What the process read from disks meanwhile."""
    is_verified: bool = False
    """Whether every tensor held what it should when the time was taken; checked afterwards."""
    note: str = ""
    """The transport in use, where there is a choice."""


def timed(run: Callable[[], object]) -> Timed:
    """Run once. What came of it is not verified yet."""
    before_cpu_s, before_bytes = cpu_s_of(os.getpid()), disk_bytes()
    began_at_s = time.monotonic()
    run()
    seconds = time.monotonic() - began_at_s
    return Timed(
        began_at_s=began_at_s,
        seconds=seconds,
        cpu_s=cpu_s_of(os.getpid()) - before_cpu_s,
        disk_bytes=disk_bytes() - before_bytes,
    )


def verified(run: Timed, is_verified: bool, note: str = "") -> Timed:
    """Return the run with what the check afterwards has found."""
    return msgspec.structs.replace(run, is_verified=is_verified, note=note)
