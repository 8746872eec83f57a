"""The weights that are moved: how they are laid out, what is in them, and their file."""

import json
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import xxhash

MIB = 1 << 20
NUM_LAYERS = 16
PARTS = (
    ("norm_in", 0), ("norm_mid", 0), ("bias", 0),
    ("q", 8), ("k", 2), ("v", 2), ("o", 8), ("gate", 22), ("up", 22), ("down", 22),
)  # fmt: skip
"""The tensors of a layer and their relative sizes, about those of a dense model with grouped
attention; 0: a vector."""

NUM_TENSORS = NUM_LAYERS * len(PARTS)
VECTOR_BYTES = 2048
ALIGNMENT_BYTES = 64
_POOL_BYTES = 32 * MIB
_PIECE_BYTES = 8 * MIB


class TensorPlace(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of bfloat16, where it lies among the others, and what is in it."""

    name: str
    offset_bytes: int
    size_bytes: int
    digest: str = ""
    """xxh3_128."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """All tensors, one behind the other without gaps, and the file that holds them."""

    size_bytes: int
    tensors: list[TensorPlace]
    path: str
    data_offset_bytes: int
    """Where in the file the first tensor begins."""


def layout(size_bytes: int) -> list[TensorPlace]:
    """Divide `size_bytes` among 160 tensors; the last one takes what rounding leaves."""
    vector_bytes = min(VECTOR_BYTES, size_bytes // (4 * NUM_TENSORS) // 2 * 2)
    num_vectors = NUM_LAYERS * sum(weight == 0 for _, weight in PARTS)
    unit = (size_bytes - num_vectors * vector_bytes) / (NUM_LAYERS * sum(w for _, w in PARTS))
    places: list[TensorPlace] = []
    offset = 0
    for layer in range(NUM_LAYERS):
        for name, weight in PARTS:
            is_last = len(places) == NUM_TENSORS - 1
            rounded = int(unit * weight) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
            size = size_bytes - offset if is_last else rounded or vector_bytes
            places.append(
                TensorPlace(name=f"layers.{layer}.{name}", offset_bytes=offset, size_bytes=size)
            )
            offset += size
    return places


def make_content(folder: Path, size_bytes: int) -> Content:
    """Write the weights as a safetensors file, and describe them."""
    places = layout(size_bytes)
    header = {
        place.name: {
            "dtype": "BF16",
            "shape": [place.size_bytes // 2],
            "data_offsets": [place.offset_bytes, place.offset_bytes + place.size_bytes],
        }
        for place in places
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "weights.safetensors"
    digests = []
    rng = random.Random(size_bytes)
    pool = memoryview(rng.randbytes(_POOL_BYTES))
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for place in places:
            hasher = xxhash.xxh3_128()
            for size in _pieces(place.size_bytes):
                # Pieces that begin anywhere in some random bytes differ from each other as well as
                # fresh ones, and take no time to make.
                begin = rng.randrange(_POOL_BYTES - size + 1)
                data = pool[begin : begin + size]
                hasher.update(data)
                file.write(data)
            digests.append(hasher.hexdigest())
        file.flush()
        os.fsync(file.fileno())
    tensors = [
        msgspec.structs.replace(place, digest=digest)
        for place, digest in zip(places, digests, strict=True)
    ]
    return Content(
        size_bytes=size_bytes, tensors=tensors, path=str(path), data_offset_bytes=8 + len(text)
    )


def read_into(content: Content, view: memoryview) -> None:
    """Fill memory with all weights, from the file."""
    with open(content.path, "rb", buffering=0) as file:
        file.seek(content.data_offset_bytes)
        done = 0
        while done < content.size_bytes:
            num_read = file.readinto(view[done : done + 16 * MIB])
            if not num_read:
                raise OSError(f"{content.path} ends after {done} bytes")
            done += num_read


def is_equal(content: Content, parts: dict[str, memoryview]) -> bool:
    """Whether each tensor holds what it should, bit by bit (by digest)."""
    return len(parts) == len(content.tensors) and all(
        parts[place.name].nbytes == place.size_bytes
        and xxhash.xxh3_128_hexdigest(parts[place.name]) == place.digest
        for place in content.tensors
    )


def parts_of(content: Content, view: memoryview) -> dict[str, memoryview]:
    """Return the tensors of memory that holds all of them without gaps."""
    return {
        place.name: view[place.offset_bytes : place.offset_bytes + place.size_bytes]
        for place in content.tensors
    }


def _pieces(size_bytes: int) -> Iterator[int]:
    for begin in range(0, size_bytes, _PIECE_BYTES):
        yield min(_PIECE_BYTES, size_bytes - begin)
