"""Which blocks of tokens each worker has in its KV cache, as the workers themselves tell it.

A worker names its blocks by hashes of its own; a stored block says whose continuation it is and
what its tokens are. From that each block gets a digest of ours, seeded with the digest before it,
so that a prompt's tokens can be looked up without knowing how an engine computes its hashes.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

_NEAR_MEDIA = frozenset(("GPU", "CPU_PINNED"))
"""From where a cached block is sooner at hand than computed again; disks and remote stores are
read ahead only when the engine decides so."""

_GROWN_UP_RUNS = 32
_ORPHAN_DECAY = 0.98
_MAX_ORPHAN_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlocks:
    """A run of blocks that came into a cache, each the continuation of the one before."""

    block_hashes: Sequence[int]
    parent_hash: int | None
    """The block that the first continues; None at the beginning of a prompt."""
    token_ids: Sequence[int]
    """The tokens of all blocks, one block after the other."""
    medium: str = "GPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedBlocks:
    """Blocks that left one medium of a cache."""

    block_hashes: Sequence[int]
    medium: str = "GPU"


class BlockIndex:
    """The blocks of all workers that tell of theirs.

    A number found here is exact as long as everything was heard that the worker said since its
    cache was empty (`is_complete`). Otherwise blocks are missing, and continuations of missing
    blocks cannot be placed; such a worker is trusted when continuations like that are rare.
    """

    def __init__(self) -> None:
        self._caches: dict[str, _Cache] = {}

    def add_worker(self, worker_id: str, block_tokens: int) -> None:
        """Begin with a worker of which nothing is known; `block_tokens` are in each block."""
        if block_tokens < 1:
            raise ValueError(f"block_tokens must be at least 1 ({block_tokens})")
        self._caches[worker_id] = _Cache(block_tokens)

    def remove_worker(self, worker_id: str) -> None:
        """Forget a worker, known or not."""
        self._caches.pop(worker_id, None)

    def restart(self, worker_id: str, *, is_complete: bool) -> None:
        """Forget a worker's blocks: what it said was missed, or it begins anew.

        Args:
            is_complete: whether its cache is known to be empty.
        """
        cache = self._caches[worker_id]
        self._caches[worker_id] = _Cache(cache.block_tokens, is_complete=is_complete)

    def stored(self, worker_id: str, blocks: StoredBlocks) -> None:
        """Blocks came into the worker's cache."""
        self._caches[worker_id].store(blocks)

    def removed(self, worker_id: str, blocks: RemovedBlocks) -> None:
        """Blocks left the worker's cache; those not known are passed over."""
        self._caches[worker_id].remove(blocks)

    def cleared(self, worker_id: str) -> None:
        """The worker's cache is empty."""
        self.restart(worker_id, is_complete=True)

    def num_blocks(self, worker_id: str) -> int:
        """Return how many blocks are known of a worker, 0 for an unknown one."""
        cache = self._caches.get(worker_id)
        return 0 if cache is None else len(cache.digest_by_hash)

    def is_trusted(self, worker_id: str) -> bool:
        """Whether what is found for this worker is worth more than a guess."""
        cache = self._caches.get(worker_id)
        return cache is not None and cache.is_trusted

    @property
    def has_trusted(self) -> bool:
        """Whether there is any worker for which looking up is worth while."""
        return bool(self._caches) and any(cache.is_trusted for cache in self._caches.values())

    def cached_tokens(self, worker_id: str, token_ids: Sequence[int]) -> int:
        """Return how many of the prompt's first tokens the worker has, whole blocks only."""
        cache = self._caches.get(worker_id)
        if cache is None:
            return 0
        return _walk(token_ids, cache.block_tokens, {worker_id: cache})[worker_id]

    def hit_tokens(self, token_ids: Sequence[int]) -> dict[str, int]:
        """Return the same for every worker that is trusted; 0 is an answer, too.

        The cost grows with the longest hit, not with the prompt.
        """
        groups: dict[int, dict[str, _Cache]] = {}
        for worker_id, cache in self._caches.items():
            if cache.is_trusted:
                groups.setdefault(cache.block_tokens, {})[worker_id] = cache
        hits: dict[str, int] = {}
        for block_tokens, caches in groups.items():
            hits |= _walk(token_ids, block_tokens, caches)
        return hits


class _Cache:
    """The blocks of one worker."""

    __slots__ = (
        "_is_complete", "_num_runs", "_on_medium", "_orphan_share", "block_tokens",
        "digest_by_hash", "digests",
    )  # fmt: skip

    def __init__(self, block_tokens: int, *, is_complete: bool = False) -> None:
        self.block_tokens = block_tokens
        self.digest_by_hash: dict[int, int] = {}
        self.digests: set[int] = set()
        self._on_medium: dict[str, set[int]] = {medium: set() for medium in _NEAR_MEDIA}
        self._is_complete = is_complete
        self._num_runs = 0
        self._orphan_share = 0.0

    @property
    def is_trusted(self) -> bool:
        return self._is_complete or (
            self._num_runs >= _GROWN_UP_RUNS and self._orphan_share < _MAX_ORPHAN_SHARE
        )

    def store(self, blocks: StoredBlocks) -> None:
        on_medium = self._on_medium.get(blocks.medium)
        num_tokens = self.block_tokens * len(blocks.block_hashes)
        if on_medium is None or len(blocks.token_ids) != num_tokens:
            return
        digest: int | None = 0
        if blocks.parent_hash is not None:
            digest = self.digest_by_hash.get(blocks.parent_hash)
        self._count_run(is_orphan=digest is None)
        if digest is None:
            return
        digests = list(_digests(blocks.token_ids, self.block_tokens, digest))
        on_medium.update(blocks.block_hashes)
        self.digest_by_hash.update(zip(blocks.block_hashes, digests, strict=True))
        self.digests.update(digests)

    def remove(self, blocks: RemovedBlocks) -> None:
        on_medium = self._on_medium.get(blocks.medium)
        if on_medium is None:
            return
        for block_hash in blocks.block_hashes:
            on_medium.discard(block_hash)
            if not any(block_hash in others for others in self._on_medium.values()):
                digest = self.digest_by_hash.pop(block_hash, None)
                if digest is not None:
                    self.digests.discard(digest)

    def _count_run(self, *, is_orphan: bool) -> None:
        self._num_runs += 1
        self._orphan_share = self._orphan_share * _ORPHAN_DECAY + (1 - _ORPHAN_DECAY) * is_orphan


def _walk(
    token_ids: Sequence[int], block_tokens: int, caches: Mapping[str, _Cache]
) -> dict[str, int]:
    """Return how many of the first tokens each of the caches holds."""
    hits: dict[str, int] = {}
    left = [(worker_id, cache.digests) for worker_id, cache in caches.items()]
    num_tokens = 0
    for digest in _digests(token_ids, block_tokens, 0):
        for _, digests in left:
            if digest not in digests:
                break
        else:
            num_tokens += block_tokens
            continue
        hits |= {worker_id: num_tokens for worker_id, digests in left if digest not in digests}
        left = [(worker_id, digests) for worker_id, digests in left if digest in digests]
        if not left:
            return hits
        num_tokens += block_tokens
    return hits | {worker_id: num_tokens for worker_id, _ in left}


def _digests(token_ids: Sequence[int], block_tokens: int, digest: int) -> Iterator[int]:
    """Yield one digest per whole block, each seeded with the one before; `digest` is the first."""
    block_bytes = block_tokens * _TOKEN_BYTES
    stride_tokens = max(1, _STRIDE_TOKENS // block_tokens) * block_tokens
    for start in range(0, len(token_ids), stride_tokens):
        packed = array("q", token_ids[start : start + stride_tokens]).tobytes()
        for place in range(0, len(packed) - block_bytes + 1, block_bytes):
            digest = xxh3_64_intdigest(packed[place : place + block_bytes], digest)
            yield digest


_TOKEN_BYTES = array("q").itemsize
_STRIDE_TOKENS = 512
"""So many tokens are packed together: most prompts are left after their first block."""
