"""The slabs that one engine offers, by id."""

import secrets
import threading
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.slab import Slab

_ID_BITS = 63
"""Ids are random, so that one from before a restart finds nothing, and travel as JSON integers."""


class Offered(NamedTuple):
    """A slab, and what peers may do with it."""

    slab: Slab
    is_writable: bool


class Registry:
    """Which slabs peers may reach. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: dict[int, Offered] = {}

    def add(self, slabs: Sequence[Slab], *, writable: bool) -> list[int]:
        """Offer all of them for reading, and writing if so wanted, or none; return their ids.

        Raises:
            TransferError: one overlaps another, given or offered already (incompatible).
        """
        with self._lock:
            _refuse_overlaps([*(offered.slab for offered in self._offered.values()), *slabs])
            added = {secrets.randbits(_ID_BITS): Offered(slab, writable) for slab in slabs}
            self._offered |= added
            return list(added)

    def remove(self, slabs: Iterable[Slab]) -> None:
        """Offer them no more; those that are not offered are passed over."""
        gone = set(slabs)
        with self._lock:
            self._offered = {
                slab_id: offered
                for slab_id, offered in self._offered.items()
                if offered.slab not in gone
            }

    def size_of(self, slab_id: int) -> int | None:
        """Return how long the slab of that id is; None when none is offered."""
        with self._lock:
            offered = self._offered.get(slab_id)
            return None if offered is None else offered.slab.size_bytes

    def pinned(self, slab_id: int) -> Offered | None:
        """Return the slab, pinned, for a transfer that begins; None when none is offered.

        Found and pinned in one step, so that nobody closes it in between.
        """
        with self._lock:
            offered = self._offered.get(slab_id)
            if offered is not None:
                offered.slab.pin()
            return offered


def _refuse_overlaps(slabs: list[Slab]) -> None:
    ordered = sorted(slabs, key=lambda slab: (slab.device, slab.address))
    for first, second in pairwise(ordered):
        end = first.address + first.size_bytes
        if first.device == second.device and second.address < end:
            raise TransferError(
                f"a slab of {second.size_bytes} bytes overlaps one of {first.size_bytes} bytes "
                f"on {first.device}",
                fault=TransferFault.INCOMPATIBLE,
            )
