"""Which chunks are still to be pulled and by whom: what the threads of one load share."""

import threading
from collections.abc import Container, Iterable

from hfx_sgl.errors import TransferError
from hfx_transfer.weights.holding import Holding


class ChunkBoard:
    """Deals the missing chunks of a holding out, each to one source at a time.

    A chunk that was claimed is either marked verified or given back; nobody else pulls it
    meanwhile, so no two transfers ever write to the same place. Thread-safe.
    """

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._changed = threading.Condition()
        self._free: list[dict[int, None]] = [{} for _ in holding.slabs]
        for index in holding.verified.missing():
            self._free[holding.grid[index].slab][index] = None
        self._spoilt: TransferError | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is verified."""
        return self._holding.verified.is_complete

    @property
    def spoilt(self) -> TransferError | None:
        """Why this attempt cannot succeed any more; None while it can."""
        return self._spoilt

    @property
    def is_over(self) -> bool:
        """Whether there is no point in pulling on."""
        return self.is_complete or self._spoilt is not None

    def next_slab(self, available: Container[int] | None) -> int | None:
        """Return the first slab with a chunk to claim; None when there is none.

        Args:
            available: the chunks that the asking source has; None for all.
        """
        with self._changed:
            for slab in range(len(self._free)):
                if self._first(slab, available) is not None:
                    return slab
        return None

    def claim(self, slab: int, available: Container[int] | None) -> int | None:
        """Take a chunk of one slab, the first that nobody pulls; None when there is none."""
        with self._changed:
            index = None if self.is_over else self._first(slab, available)
            if index is not None:
                del self._free[slab][index]
            return index

    def give_back(self, indices: Iterable[int]) -> None:
        """Let others pull chunks that were claimed and not verified."""
        returned = sorted(indices)
        with self._changed:
            for slab in {self._holding.grid[index].slab for index in returned}:
                of_slab = [i for i in returned if self._holding.grid[i].slab == slab]
                self._free[slab] = dict.fromkeys([*of_slab, *self._free[slab]])
            self._changed.notify_all()

    def mark_verified(self, index: int) -> None:
        """Say that a chunk that was claimed is in place and is what its digest says."""
        self._holding.verified.add(index)
        if self.is_complete:
            self.notify()

    def spoil(self, error: TransferError) -> None:
        """Say that this attempt must not succeed; the first reason stays."""
        with self._changed:
            self._spoilt = self._spoilt or error
            self._changed.notify_all()

    def notify(self) -> None:
        """Have everybody who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Wait until something may have changed, or for `timeout_s`."""
        with self._changed:
            if not self.is_over:
                self._changed.wait(timeout_s)

    def _first(self, slab: int, available: Container[int] | None) -> int | None:
        for index in self._free[slab]:
            if available is None or index in available:
                return index
        return None
