"""Where many tensors go in few large slabs. Pure arithmetic.

Mooncake's registration takes time that grows with the square of the number of regions, and each
transfer costs a round trip: thousands of tensors become a handful of slabs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 512
"""Where a tensor may begin: what CUDA's and NPU's allocators promise, and more than any dtype or
vector instruction asks for."""

DEFAULT_SLAB_LIMIT_BYTES = 4 << 30
"""Long enough for a large model in a few dozen slabs, short enough to be found in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one tensor begins."""

    slab_index: int
    offset_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Slabs to allocate, and the place of each tensor in the order in which they were given."""

    slab_sizes_bytes: tuple[int, ...]
    places: tuple[Place, ...]


def lay_out(
    sizes_bytes: Sequence[int],
    *,
    slab_limit_bytes: int = DEFAULT_SLAB_LIMIT_BYTES,
    alignment_bytes: int = ALIGNMENT_BYTES,
) -> Layout:
    """Put tensors one after the other into slabs of at most `slab_limit_bytes`.

    Order is kept, so that neighbours travel in one chunk. A tensor longer than the limit gets a
    slab of its own; one of no bytes gets a place like any other. Every slab is a multiple of
    `alignment_bytes` long, and at least that. No tensors, no slabs.

    Raises:
        ValueError: a size is negative, or limit or alignment is not a positive number.
    """
    if alignment_bytes < 1 or slab_limit_bytes < 1:
        raise ValueError(
            f"slab_limit_bytes and alignment_bytes must be positive "
            f"({slab_limit_bytes}, {alignment_bytes})"
        )
    slabs: list[int] = []
    places = []
    for size_bytes in sizes_bytes:
        if size_bytes < 0:
            raise ValueError(f"a tensor cannot have {size_bytes} bytes")
        taken_bytes = max(alignment_bytes, -(-size_bytes // alignment_bytes) * alignment_bytes)
        if not slabs or slabs[-1] + taken_bytes > slab_limit_bytes:
            slabs.append(0)
        places.append(Place(slab_index=len(slabs) - 1, offset_bytes=slabs[-1]))
        slabs[-1] += taken_bytes
    return Layout(slab_sizes_bytes=tuple(slabs), places=tuple(places))
