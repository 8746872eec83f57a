"""The numbering of chunks: each slab is cut into equal pieces, its last one may be shorter."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

DEFAULT_CHUNK_BYTES = 8 << 20
"""Large enough that the cost per transfer vanishes (measured: 16 MiB is not faster than 8), small
enough that four under way and one lost to a dead source are little."""

MIN_CHUNK_BYTES = 4096
MAX_CHUNK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of one slab."""

    index: int
    """Its number among the chunks of all slabs."""
    slab: int
    offset_bytes: int
    size_bytes: int


class ChunkGrid:
    """All chunks of some slabs, numbered slab by slab."""

    def __init__(self, slab_sizes_bytes: Sequence[int], chunk_bytes: int) -> None:
        counts = [-(-size // chunk_bytes) for size in slab_sizes_bytes]
        self._chunk_bytes = chunk_bytes
        self._firsts = [0, *accumulate(counts)]
        self._chunks = tuple(
            Chunk(
                index=first + i,
                slab=slab,
                offset_bytes=i * chunk_bytes,
                size_bytes=min(chunk_bytes, size - i * chunk_bytes),
            )
            for slab, (first, count, size) in enumerate(
                zip(self._firsts, counts, slab_sizes_bytes, strict=False)
            )
            for i in range(count)
        )

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._chunks)

    def __getitem__(self, index: int) -> Chunk:
        return self._chunks[index]

    def of_slab(self, slab: int) -> Sequence[Chunk]:
        """Return the chunks of one slab, in order."""
        return self._chunks[self._firsts[slab] : self._firsts[slab + 1]]

    def at(self, slab: int, offset_bytes: int) -> Chunk:
        """Return the chunk of a slab that begins at an offset, or holds it."""
        return self._chunks[self._firsts[slab] + offset_bytes // self._chunk_bytes]

    def size_bytes(self, indices: Iterable[int]) -> int:
        """Return how long these chunks are together."""
        return sum(self._chunks[index].size_bytes for index in indices)


def to_bitmap(indices: Iterable[int], num_chunks: int) -> bytes:
    """Return one bit for each chunk, the lowest first in each byte; 1 for those given."""
    bits = bytearray(-(-num_chunks // 8))
    for index in indices:
        bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits)


def from_bitmap(bitmap: bytes, num_chunks: int) -> set[int]:
    """Return the chunks whose bit is set.

    Raises:
        ValueError: it is not as long as `num_chunks` bits need, or has a bit beyond them.
    """
    if len(bitmap) != -(-num_chunks // 8):
        raise ValueError(f"a bitmap of {num_chunks} chunks has {-(-num_chunks // 8)} bytes")
    found = {8 * i + bit for i, byte in enumerate(bitmap) if byte for bit in _BITS[byte]}
    if found and max(found) >= num_chunks:
        raise ValueError(f"bit {max(found)} is set, of {num_chunks} chunks")
    return found


_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
