"""The memory of one engine's paged KV, registered once with one transfer engine."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import xxhash

from hfx_transfer.engine.protocol import TransferEngine
from hfx_transfer.kv.layout import KvLayout, Plane, place_of_plane
from hfx_transfer.kv.runs import SlotRun, Span, layer_spans
from hfx_transfer.memory.copying import copy_out_of, is_host, new_stage
from hfx_transfer.memory.devices import import_torch, synchronize
from hfx_transfer.memory.slab import Slab
from hfx_transfer.memory.tensor import tensor_in

if TYPE_CHECKING:
    import torch


class KvPool:
    """Slabs in a layout, offered to peers from here until `close`.

    Args:
        layout: how keys and values lie in them.
        make_slab: returns a slab of so many bytes, of a kind that the engine can offer.
        engine: outlives the pool.
        receives: whether peers may write to it; a pool that KV is only sent from need not allow it.

    Raises:
        TransferError: the engine cannot offer the memory.
    """

    def __init__(
        self,
        layout: KvLayout,
        make_slab: Callable[[int], Slab],
        engine: TransferEngine,
        *,
        receives: bool = True,
    ) -> None:
        self.layout = layout
        self.engine = engine
        self.slabs = tuple(make_slab(layout.slab_bytes) for _ in range(layout.num_slabs))
        try:
            self.regions = tuple(engine.register(self.slabs, writable=receives))
        except BaseException:
            self._close_slabs()
            raise

    def pin(self) -> None:
        """Keep the memory in place, whatever `close` is called meanwhile."""
        for slab in self.slabs:
            slab.pin()

    def unpin(self) -> None:
        """Take one `pin` back."""
        for slab in self.slabs:
            slab.unpin()

    def synchronize(self) -> None:
        """Wait until what a device has queued for the memory has happened."""
        for device in {slab.device for slab in self.slabs}:
            synchronize(device)

    def digest(self, layer: int, runs: Iterable[SlotRun]) -> bytes:
        """Return the xxh3_128 of one layer's tokens: keys in order, then values."""
        hasher = xxhash.xxh3_128()
        stage: memoryview | None = None
        for span in layer_spans(self.layout, layer, runs):
            slab = self.slabs[span.slab]
            if is_host(slab):
                hasher.update(slab.view()[span.offset_bytes : span.offset_bytes + span.size_bytes])
            else:
                stage = stage or new_stage(slab)
                _update_staged(hasher, slab, span, stage)
        return hasher.digest()

    def tensors(self, layer: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return keys and values of one layer, without a copy.

        Both have the shape (pages, tokens of a page, heads, head size). They keep the memory
        alive, not the registration.

        Raises:
            TransferError: torch is missing.
        """
        layout = self.layout
        dtype = getattr(import_torch(), layout.dtype.value)
        shape = (layout.num_pages, layout.page_tokens, layout.num_kv_heads, layout.head_dim)
        keys, values = (
            tensor_in(
                self.slabs[place.slab], offset_bytes=place.offset_bytes, dtype=dtype, shape=shape
            )
            for place in (place_of_plane(layout, layer, plane) for plane in Plane)
        )
        return keys, values

    def close(self) -> None:
        """Withdraw the memory from peers and give it back, once nothing pins it; twice is once."""
        self.engine.unregister(self.slabs)
        self._close_slabs()

    def _close_slabs(self) -> None:
        for slab in self.slabs:
            slab.close()


def _update_staged(hasher: "xxhash.xxh3_128", slab: Slab, span: Span, stage: memoryview) -> None:
    """Hash bytes that the CPU does not address, by way of host memory."""
    done_bytes = 0
    while done_bytes < span.size_bytes:
        part = stage[: min(len(stage), span.size_bytes - done_bytes)]
        copy_out_of(slab, span.offset_bytes + done_bytes, part)
        hasher.update(part)
        done_bytes += len(part)
