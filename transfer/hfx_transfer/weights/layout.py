"""Where each tensor lies, by name: the order is that of the names, tied tensors lie once.

The same names, types and shapes always give the same layout, so that seeds which read the same
checkpoint on their own hold the same chunks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from hfx_transfer.memory import layout as memory_layout
from hfx_transfer.weights.dtypes import num_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """What a tensor is, wherever it lies."""

    name: str
    dtype: str
    """One of `dtypes.BITS_PER_ELEMENT`."""
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Its length when contiguous."""
        return num_bytes(self.dtype, self.shape)


class TensorPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor and where it lies. Travels as JSON."""

    name: str
    dtype: str
    """One of `dtypes.BITS_PER_ELEMENT`."""
    shape: tuple[int, ...]
    slab: int
    """Index of the slab; 0 for a tensor without bytes."""
    offset_bytes: int
    size_bytes: int

    @property
    def end_bytes(self) -> int:
        """Where in the slab it ends."""
        return self.offset_bytes + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All tensors in order of name, and how long each slab is. Equal places are tied tensors."""

    tensors: tuple[TensorPlace, ...]
    slab_sizes_bytes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """All slabs together."""
        return sum(self.slab_sizes_bytes)


def lay_out(specs: Iterable[TensorSpec], *, tied_to: Mapping[str, str] | None = None) -> Layout:
    """Return the layout of tensors that are to be copied together.

    Args:
        specs: the tensors; no name twice.
        tied_to: for a tensor that is the same memory as another, the other's name.
    """
    tied = tied_to or {}
    ordered = sorted(specs, key=lambda spec: spec.name)
    with_bytes = [spec for spec in ordered if spec.size_bytes and spec.name not in tied]
    laid_out = memory_layout.lay_out([spec.size_bytes for spec in with_bytes])
    found = {
        spec.name: (place.slab_index, place.offset_bytes)
        for spec, place in zip(with_bytes, laid_out.places, strict=True)
    }
    return Layout(
        tensors=tuple(
            place_of(spec, *found.get(tied.get(spec.name, spec.name), (0, 0))) for spec in ordered
        ),
        slab_sizes_bytes=laid_out.slab_sizes_bytes,
    )


def place_of(spec: TensorSpec, slab: int, offset_bytes: int) -> TensorPlace:
    """Return a tensor's place."""
    return TensorPlace(
        name=spec.name,
        dtype=spec.dtype,
        shape=spec.shape,
        slab=slab,
        offset_bytes=offset_bytes,
        size_bytes=spec.size_bytes,
    )


def gaps(layout: Layout, slab: int) -> list[tuple[int, int]]:
    """Return the parts of a slab that no tensor takes, as (begin, end) in order."""
    spans = sorted(
        (place.offset_bytes, place.end_bytes) for place in layout.tensors if place.slab == slab
    )
    found = []
    end = 0
    for span_begin, span_end in spans:
        if span_begin > end:
            found.append((end, span_begin))
        end = max(end, span_end)
    if end < layout.slab_sizes_bytes[slab]:
        found.append((end, layout.slab_sizes_bytes[slab]))
    return found
