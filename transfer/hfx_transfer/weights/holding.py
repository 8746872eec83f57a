"""Weights of one generation in memory: the slabs, what lies in them, which chunks are verified.

A loader fills one chunk by chunk while a seed already serves it; a complete one is what a seed
starts from. Knows no network and no torch.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights.chunks import DEFAULT_CHUNK_BYTES, ChunkGrid, to_bitmap
from hfx_transfer.weights.digests import digest_all
from hfx_transfer.weights.layout import Layout
from hfx_transfer.weights.manifest import Manifest, ParallelRank, model_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which weights these are. Sources with the same can replace each other in the middle."""

    model_hash: str
    generation: int
    rank: ParallelRank
    chunk_bytes: int
    digests: tuple[str, ...]


class VerifiedChunks:
    """Which chunks hold what their digest says; thread-safe, chunks are only ever added."""

    def __init__(self, num_chunks: int, verified: Iterable[int] = ()) -> None:
        self._lock = threading.Lock()
        self._verified = set(verified)
        self._listeners: tuple[Callable[[], object], ...] = ()
        self.num_chunks = num_chunks

    def __len__(self) -> int:
        return len(self._verified)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return len(self._verified) == self.num_chunks

    def add(self, index: int) -> None:
        """Say that one was verified."""
        with self._lock:
            self._verified.add(index)
        for listener in self._listeners:
            listener()

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Have something quick called after each `add`, in the thread that added."""
        self._listeners = (*self._listeners, listener)

    def bitmap(self) -> bytes:
        """Return one bit for each chunk, as `chunks.from_bitmap` reads it."""
        with self._lock:
            return to_bitmap(self._verified, self.num_chunks)

    def missing(self) -> list[int]:
        """Return the chunks that are not verified, in order."""
        with self._lock:
            return [index for index in range(self.num_chunks) if index not in self._verified]


class Holding:
    """One generation of weights in its slabs.

    Args:
        layout: what lies where.
        slabs: one for each of the layout, of its size. They are the holding's from here on.
        identity: which weights they are, or will be when complete.
        is_frozen: whether nobody outside of this package can write to the slabs.
        is_complete: whether all chunks are in place and verified.
    """

    def __init__(
        self,
        layout: Layout,
        slabs: Sequence[Slab],
        identity: Identity,
        *,
        is_frozen: bool,
        is_complete: bool,
    ) -> None:
        self.layout = layout
        self.slabs = tuple(slabs)
        self.identity = identity
        self.is_frozen = is_frozen
        self.grid = ChunkGrid(layout.slab_sizes_bytes, identity.chunk_bytes)
        num_chunks = len(self.grid)
        self.verified = VerifiedChunks(num_chunks, range(num_chunks) if is_complete else ())

    @classmethod
    def for_manifest(cls, manifest: Manifest, slabs: Sequence[Slab]) -> "Holding":
        """Return an empty holding that will be what the manifest describes."""
        identity = identity_of(manifest)
        return cls(manifest.layout, slabs, identity, is_frozen=False, is_complete=False)

    def pin(self) -> None:
        """Keep all slabs in place, once more."""
        for slab in self.slabs:
            slab.pin()

    def unpin(self) -> None:
        """Take back one `pin`."""
        for slab in self.slabs:
            slab.unpin()

    def close(self) -> None:
        """Give the slabs back; those that are pinned go later. Tensors made of them live on."""
        for slab in self.slabs:
            slab.close()


def identity_of(manifest: Manifest) -> Identity:
    """Return which weights a manifest describes."""
    return Identity(
        model_hash=manifest.model_hash,
        generation=manifest.generation,
        rank=manifest.rank,
        chunk_bytes=manifest.chunk_bytes,
        digests=manifest.digests,
    )


def hold(
    layout: Layout,
    slabs: Sequence[Slab],
    *,
    generation: int = 0,
    rank: ParallelRank | None = None,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    is_frozen: bool = True,
) -> Holding:
    """Return a complete holding of slabs that are filled; computes all digests."""
    digests = digest_all(slabs, chunk_bytes)
    identity = Identity(
        model_hash=model_hash(layout, chunk_bytes, digests),
        generation=generation,
        rank=rank or ParallelRank(),
        chunk_bytes=chunk_bytes,
        digests=digests,
    )
    return Holding(layout, slabs, identity, is_frozen=is_frozen, is_complete=True)
