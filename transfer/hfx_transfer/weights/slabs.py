"""Makes the slabs that weights are copied, read or pulled into."""

from collections.abc import Sequence

import structlog

from hfx_sgl.errors import TransferError
from hfx_transfer.memory.allocate import allocate
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.memory.slab import Slab

_log = structlog.get_logger(__name__)


def make_slabs(sizes_bytes: Sequence[int], device: str, *, shareable: bool) -> list[Slab]:
    """Return slabs of these sizes; those of the host are zeroed.

    Args:
        sizes_bytes: one for each.
        device: where.
        shareable: whether processes of this host are to map them. Where shared memory is too
            small (containers often have 64 MB), ordinary memory is taken instead.

    Raises:
        TransferError: the device cannot be used (unavailable).
    """
    slabs: list[Slab] = []
    try:
        if shareable and device == "cpu":
            try:
                for size in sizes_bytes:
                    slabs.append(SharedSlab(size))
                return slabs
            except TransferError as exc:
                _log.warning("weights_not_in_shared_memory", reason=str(exc))
                _close(slabs)
        for size in sizes_bytes:
            slabs.append(allocate(size, device))
    except BaseException:
        _close(slabs)
        raise
    return slabs


def _close(slabs: list[Slab]) -> None:
    for slab in slabs:
        slab.close()
    slabs.clear()
