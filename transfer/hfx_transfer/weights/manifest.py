"""What a seed says about its weights, as JSON, and the checks on what arrives.

A manifest is believed by nobody: `decode` accepts only one whose tensors lie inside of its slabs,
do not overlap and are as long as their types and shapes say, and whose hash is that of its
content. So whoever holds a decoded manifest can allocate and place without looking again.
"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import xxhash

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import RegionHandle
from hfx_transfer.weights.chunks import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES
from hfx_transfer.weights.dtypes import BITS_PER_ELEMENT, num_bytes
from hfx_transfer.weights.layout import Layout, TensorPlace

FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 256 << 20
"""A million tensors and as many chunks fit; more is a mistake or an attack."""
MAX_TOTAL_BYTES = 64 << 40
"""More weights than any host holds."""
MAX_SLABS = 4096
MAX_NAME_LENGTH = 1024
MAX_DIMENSIONS = 32


class ParallelRank(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a model these weights are; the whole of it by default."""

    tp_rank: int = 0
    tp_size: int = 1
    pp_rank: int = 0
    pp_size: int = 1
    ep_rank: int = 0
    ep_size: int = 1
    dp_rank: int = 0
    dp_size: int = 1

    def __str__(self) -> str:
        parts = (
            f"{kind} {getattr(self, f'{kind}_rank')}/{getattr(self, f'{kind}_size')}"
            for kind in ("tp", "pp", "ep", "dp")
        )
        return ", ".join(parts)


class SlabEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One slab and the ways to reach it, one for each backend that serves it."""

    size_bytes: int
    regions: tuple[RegionHandle, ...]
    is_frozen: bool
    """The seed never writes to it again: who maps it shared cannot see other weights in it."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of one generation at one seed."""

    version: int = FORMAT_VERSION
    model_hash: str
    """xxh3_128 of names, types, shapes, places and bytes; equal for equal weights in one layout."""
    generation: int
    """Grows whenever the weights change."""
    rank: ParallelRank
    chunk_bytes: int
    tensors: tuple[TensorPlace, ...]
    """In order of name; tied tensors have the same place."""
    slabs: tuple[SlabEntry, ...]
    digests: tuple[str, ...]
    """xxh3_128 of each chunk as 32 hexadecimal digits, slab by slab."""

    @property
    def layout(self) -> Layout:
        """Where the tensors lie."""
        return Layout(
            tensors=self.tensors, slab_sizes_bytes=tuple(slab.size_bytes for slab in self.slabs)
        )


def model_hash(layout: Layout, chunk_bytes: int, digests: Sequence[str]) -> str:
    """Return xxh3_128 over what the tensors are, where they lie and what they hold."""
    content = (chunk_bytes, layout.slab_sizes_bytes, layout.tensors, tuple(digests))
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(content))


def encode(manifest: Manifest) -> bytes:
    """Return the JSON that `decode` reads."""
    return msgspec.json.encode(manifest)


def decode(data: bytes) -> Manifest:
    """Read and check a manifest.

    Raises:
        TransferError: it is no manifest (protocol), or its tensors contradict themselves
            (incompatible); the message names the tensor.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise _protocol_error(f"longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _protocol_error(str(exc)) from exc
    _check_frame(manifest)
    _check_tensors(manifest)
    if manifest.model_hash != model_hash(manifest.layout, manifest.chunk_bytes, manifest.digests):
        raise _protocol_error("its hash is not that of its content")
    return manifest


def _check_frame(manifest: Manifest) -> None:
    if manifest.version != FORMAT_VERSION:
        raise TransferError(
            f"manifest: version {manifest.version}, only {FORMAT_VERSION} is known",
            fault=TransferFault.INCOMPATIBLE,
        )
    if manifest.generation < 0:
        raise _protocol_error(f"generation {manifest.generation} is below 0")
    if not MIN_CHUNK_BYTES <= manifest.chunk_bytes <= MAX_CHUNK_BYTES:
        raise _protocol_error(f"chunks of {manifest.chunk_bytes} bytes")
    if len(manifest.slabs) > MAX_SLABS:
        raise _protocol_error(f"{len(manifest.slabs)} slabs, at most {MAX_SLABS} are allowed")
    for index, slab in enumerate(manifest.slabs):
        if slab.size_bytes < 1:
            raise _protocol_error(f"slab {index} has {slab.size_bytes} bytes")
        for region in slab.regions:
            if region.size_bytes != slab.size_bytes:
                raise _protocol_error(f"slab {index} and its {region.backend} region differ")
    sizes = manifest.layout.slab_sizes_bytes
    if sum(sizes) > MAX_TOTAL_BYTES:
        raise _protocol_error(f"{sum(sizes)} bytes of weights, at most {MAX_TOTAL_BYTES}")
    # Counted before the grid is made: a few huge slabs in tiny chunks would fill the memory.
    num_chunks = sum(-(-size // manifest.chunk_bytes) for size in sizes)
    if len(manifest.digests) != num_chunks:
        raise _protocol_error(f"{len(manifest.digests)} digests for {num_chunks} chunks")


def _check_tensors(manifest: Manifest) -> None:
    previous = None
    for tensor in manifest.tensors:
        if previous is not None and tensor.name <= previous:
            raise _incompatible(tensor.name, "is out of order or there twice")
        previous = tensor.name
        _check_tensor(tensor, manifest.slabs)
    with_bytes = {
        (t.slab, t.offset_bytes, t.size_bytes): t for t in manifest.tensors if t.size_bytes
    }
    for before, after in pairwise(sorted(with_bytes)):
        if before[0] == after[0] and after[1] < before[1] + before[2]:
            raise _incompatible(with_bytes[after].name, f"overlaps {with_bytes[before].name}")


def _check_tensor(tensor: TensorPlace, slabs: Sequence[SlabEntry]) -> None:
    if len(tensor.name) > MAX_NAME_LENGTH:
        raise _incompatible(tensor.name[:40], f"has a name of {len(tensor.name)} characters")
    if tensor.dtype not in BITS_PER_ELEMENT:
        raise _incompatible(tensor.name, f"has an unknown type {tensor.dtype}")
    if len(tensor.shape) > MAX_DIMENSIONS or any(length < 0 for length in tensor.shape):
        raise _incompatible(tensor.name, f"has the shape {tensor.shape}")
    expected = num_bytes(tensor.dtype, tensor.shape)
    if tensor.size_bytes != expected:
        raise _incompatible(
            tensor.name,
            f"has {tensor.size_bytes} bytes, but {tensor.dtype} {list(tensor.shape)} takes "
            f"{expected}",
        )
    if tensor.size_bytes == 0:
        return
    if not 0 <= tensor.slab < len(slabs):
        raise _incompatible(tensor.name, f"lies in slab {tensor.slab} of {len(slabs)}")
    if tensor.offset_bytes < 0 or tensor.end_bytes > slabs[tensor.slab].size_bytes:
        raise _incompatible(tensor.name, f"reaches out of slab {tensor.slab}")


def _protocol_error(what: str) -> TransferError:
    return TransferError(f"manifest: {what}", fault=TransferFault.PROTOCOL)


def _incompatible(name: str, what: str) -> TransferError:
    return TransferError(f"manifest: tensor {name} {what}", fault=TransferFault.INCOMPATIBLE)
