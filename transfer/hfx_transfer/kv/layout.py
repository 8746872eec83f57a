"""Where paged KV lies in memory, and whether two engines' KV can be exchanged. Pure arithmetic.

A pool has for each layer a plane of keys and a plane of values. A plane is its pages one after the
other, a page its tokens, a token its heads. Layers are spread over the slabs in order, as many to
each.
"""

from enum import IntEnum, StrEnum

import msgspec

from hfx_sgl.errors import TransferError, TransferFault


class KvDtype(StrEnum):
    """What one number of KV is. Named as in torch."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT8_E4M3 = "float8_e4m3fn"
    FLOAT8_E5M2 = "float8_e5m2"
    UINT8 = "uint8"

    @property
    def size_bytes(self) -> int:
        """How long a number is."""
        return _SIZES_BYTES[self]


_SIZES_BYTES = {
    KvDtype.FLOAT32: 4,
    KvDtype.BFLOAT16: 2,
    KvDtype.FLOAT16: 2,
    KvDtype.FLOAT8_E4M3: 1,
    KvDtype.FLOAT8_E5M2: 1,
    KvDtype.UINT8: 1,
}


class Plane(IntEnum):
    """The two halves of a layer's KV, in the order in which they lie in memory."""

    KEYS = 0
    VALUES = 1


class KvLayout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of one engine's KV pool. Travels between the two sides."""

    num_layers: int
    page_tokens: int
    num_kv_heads: int
    """On this rank."""
    head_dim: int
    dtype: KvDtype
    num_pages: int
    num_slabs: int = 1
    """Divides `num_layers`."""

    def __post_init__(self) -> None:
        for name in (
            "num_layers", "page_tokens", "num_kv_heads", "head_dim", "num_pages", "num_slabs",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 ({getattr(self, name)})")
        if self.num_layers % self.num_slabs:
            raise ValueError(
                f"num_slabs must divide num_layers ({self.num_slabs}, {self.num_layers})"
            )

    @property
    def token_bytes(self) -> int:
        """What one token takes in one plane."""
        return self.num_kv_heads * self.head_dim * self.dtype.size_bytes

    @property
    def plane_bytes(self) -> int:
        """The length of one plane."""
        return self.num_pages * self.page_tokens * self.token_bytes

    @property
    def slab_bytes(self) -> int:
        """The length of each slab."""
        return self.plane_bytes * len(Plane) * (self.num_layers // self.num_slabs)

    @property
    def handoff_token_bytes(self) -> int:
        """What one token takes over all planes."""
        return self.token_bytes * len(Plane) * self.num_layers

    def num_pages_for(self, num_tokens: int) -> int:
        """Return how many pages hold so many tokens."""
        return -(-num_tokens // self.page_tokens)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where something begins."""

    slab: int
    """Which slab, from 0."""
    offset_bytes: int
    """Within the slab."""


def place_of_plane(layout: KvLayout, layer: int, plane: Plane) -> Place:
    """Return where a plane begins."""
    slab, layer_in_slab = divmod(layer, layout.num_layers // layout.num_slabs)
    planes_before = layer_in_slab * len(Plane) + plane
    return Place(slab=slab, offset_bytes=planes_before * layout.plane_bytes)


def place_of_page(layout: KvLayout, layer: int, plane: Plane, page: int) -> Place:
    """Return where a page of a plane begins.

    Raises:
        IndexError: the pool has no such layer or page.
    """
    if not (0 <= layer < layout.num_layers and 0 <= page < layout.num_pages):
        raise IndexError(f"no page {page} of layer {layer} in {layout}")
    start = place_of_plane(layout, layer, plane)
    page_bytes = layout.page_tokens * layout.token_bytes
    return Place(slab=start.slab, offset_bytes=start.offset_bytes + page * page_bytes)


_EXCHANGED = ("num_layers", "num_kv_heads", "head_dim", "dtype")
"""Must be equal on both sides. Page sizes may differ: bytes are copied by ranges of tokens."""


def check_compatible(ours: KvLayout, theirs: KvLayout) -> None:
    """Refuse KV that this side cannot exchange with the other.

    Raises:
        TransferError: INCOMPATIBLE; names each field that differs.
    """
    differences = [
        f"{name} is {getattr(ours, name)} here and {getattr(theirs, name)} there"
        for name in _EXCHANGED
        if getattr(ours, name) != getattr(theirs, name)
    ]
    if differences:
        message = f"the KV of the two sides does not match: {'; '.join(differences)}"
        raise TransferError(message, fault=TransferFault.INCOMPATIBLE)
