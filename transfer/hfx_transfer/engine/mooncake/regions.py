"""Which slabs one native engine knows."""

import threading
from collections.abc import Sequence
from itertools import pairwise

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake.native_library import NativeEngine
from hfx_transfer.engine.mooncake.transport import location_of
from hfx_transfer.memory.slab import Slab

MAX_REGIONS = 1000
"""Registration takes time with the square of their number: 1000 take 15 ms, 20000 minutes."""


class Regions:
    """Slabs registered with one engine. Of two that overlap the library would know only one."""

    def __init__(self, native: NativeEngine) -> None:
        self._native = native
        self._slabs: dict[int, Slab] = {}
        self._lock = threading.Lock()

    def add(self, slabs: Sequence[Slab]) -> None:
        """Register all, or none.

        Raises:
            TransferError: one overlaps another, or the library refuses (incompatible).
        """
        with self._lock:
            self._check([*self._slabs.values(), *slabs])
            done: list[Slab] = []
            for location, group in _by_location(slabs).items():
                addresses = [slab.address for slab in group]
                sizes_bytes = [slab.size_bytes for slab in group]
                # In batches even when it is one: the single call holds the interpreter.
                code = self._native.batch_register_memory(addresses, sizes_bytes, location)
                done += group
                if code != 0:
                    self._native.batch_unregister_memory([slab.address for slab in done])
                    raise _incompatible(f"Mooncake does not register {len(group)} slabs ({code})")
            self._slabs |= {slab.address: slab for slab in slabs}

    def remove(self, slabs: Sequence[Slab]) -> None:
        """Take back those that are registered."""
        with self._lock:
            addresses = [slab.address for slab in slabs if self._slabs.get(slab.address) is slab]
            if addresses:
                self._native.batch_unregister_memory(addresses)
            for address in addresses:
                del self._slabs[address]

    def holds(self, slab: Slab) -> bool:
        """Whether it is registered."""
        return self._slabs.get(slab.address) is slab

    def all(self) -> list[Slab]:
        """Return what is registered."""
        with self._lock:
            return list(self._slabs.values())

    def _check(self, slabs: Sequence[Slab]) -> None:
        if len(slabs) > MAX_REGIONS:
            raise _incompatible(f"{len(slabs)} slabs are more than {MAX_REGIONS}: use larger ones")
        ordered = sorted(slabs, key=lambda slab: slab.address)
        for before, after in pairwise(ordered):
            if before.address + before.size_bytes > after.address:
                raise _incompatible(
                    f"a slab of {after.size_bytes} bytes overlaps one of {before.size_bytes}"
                )


def _by_location(slabs: Sequence[Slab]) -> dict[str, list[Slab]]:
    groups: dict[str, list[Slab]] = {}
    for slab in slabs:
        groups.setdefault(location_of(slab.device), []).append(slab)
    return groups


def _incompatible(message: str) -> TransferError:
    return TransferError(message, fault=TransferFault.INCOMPATIBLE)
