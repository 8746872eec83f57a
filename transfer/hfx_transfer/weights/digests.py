"""xxh3_128 of pieces of slabs, wherever they lie.

One thread digests about as fast as it reads memory, so verifying costs next to nothing beside any
transfer. It finds mistakes, not forgeries: who may write to a source is decided by its token and
its network.
"""

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import xxhash

from hfx_transfer.memory.copying import STAGE_BYTES, copy_out_of, is_host, new_stage
from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights.chunks import Chunk, ChunkGrid

_MAX_THREADS = 4
"""More only compete for the memory."""


class Digester:
    """Computes digests; keeps the host memory that those of a device need. For one thread."""

    def __init__(self) -> None:
        self._stage: memoryview | None = None

    def digest(self, slab: Slab, offset_bytes: int, size_bytes: int) -> str:
        """Return the digest of a part of a slab as 32 hexadecimal digits."""
        if is_host(slab):
            part = slab.view()[offset_bytes : offset_bytes + size_bytes]
            return xxhash.xxh3_128_hexdigest(part)
        if self._stage is None:
            self._stage = new_stage(slab)
        hasher = xxhash.xxh3_128()
        for begin in range(0, size_bytes, STAGE_BYTES):
            piece = self._stage[: min(STAGE_BYTES, size_bytes - begin)]
            copy_out_of(slab, offset_bytes + begin, piece)
            hasher.update(piece)
        return hasher.hexdigest()


def digest_chunks(slabs: Sequence[Slab], chunks: Iterable[Chunk]) -> list[str]:
    """Return the digest of each chunk, computed by several threads."""
    own = threading.local()

    def digest(chunk: Chunk) -> str:
        digester: Digester | None = getattr(own, "digester", None)
        if digester is None:
            digester = own.digester = Digester()
        return digester.digest(slabs[chunk.slab], chunk.offset_bytes, chunk.size_bytes)

    num_threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads, thread_name_prefix="hfx-digest") as pool:
        return list(pool.map(digest, chunks))


def digest_all(slabs: Sequence[Slab], chunk_bytes: int) -> tuple[str, ...]:
    """Return the digests of all chunks of these slabs, in order."""
    grid = ChunkGrid([slab.size_bytes for slab in slabs], chunk_bytes)
    return tuple(digest_chunks(slabs, grid))
