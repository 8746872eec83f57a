"""Remembers, approximately, which worker was sent which prompt beginnings.

A prompt is cut into blocks; a block's digest is seeded with that of the block before it, so that
one digest stands for the whole beginning up to there. What a worker's engine really has cached
is not known here. Digests of different texts may collide (64 bits, not cryptographic): that
costs a cache hit and nothing else.
"""

from collections import deque
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from hfx_sgl.policy.view import WorkerT

BLOCK_BYTES = 128
"""About 30 tokens of English: finer than the prefixes worth steering for, coarse enough that
a memory of 64 MiB of text stays near its own size."""
MAX_INDEXED_BYTES = 65_536
"""Only this much of a prompt's beginning is looked at, so that one decision has a bounded cost."""

_NUM_TABLES = 256
_TABLE_MASK = _NUM_TABLES - 1
_MAX_EPOCH_BLOCKS = 1024
_ROOM_LOOKS = 4
_SLICE_LOOKS = 64


def block_digests(prompt: bytes) -> list[int]:
    """Return one digest per whole block of the indexed part; a partial block counts for nothing."""
    digests = []
    digest = 0
    stop = min(len(prompt), MAX_INDEXED_BYTES) - BLOCK_BYTES + 1
    for start in range(0, stop, BLOCK_BYTES):
        digest = xxh3_64_intdigest(prompt[start : start + BLOCK_BYTES], digest)
        digests.append(digest)
    return digests


class BlockStore:
    """The block digests of one worker; the least recently used are the first to go.

    Uses are logged in order, at most once per digest and epoch, an epoch being a stretch of the
    log; a table maps each digest to the epoch of its last use. The entry at the log's head names
    the digest to evict, unless the table knows a later use. There are many small tables, because
    a single large one would stop the process for milliseconds each time it is resized.
    """

    __slots__ = (
        "_epoch", "_epoch_blocks", "_left_in_epoch", "_log", "_max_blocks", "_num_swept",
        "num_blocks", "tables",
    )  # fmt: skip

    def __init__(self, max_blocks: int) -> None:
        self.tables: list[dict[int, int]] = [{} for _ in range(_NUM_TABLES)]
        self.num_blocks = 0
        self._max_blocks = max_blocks
        self._log: deque[int] = deque()
        self._num_swept = 0
        self._epoch = 0
        self._epoch_blocks = max(1, min(_MAX_EPOCH_BLOCKS, max_blocks // 16))
        self._left_in_epoch = self._epoch_blocks

    @property
    def is_blank(self) -> bool:
        """Whether not even the log holds anything any more."""
        return not self._log

    def depth(self, digests: Sequence[int], known: int) -> int:
        """Return how many of `digests` are held, given that digest number `known - 1` is.

        Bisects: a digest that is held proves that everything before it was sent as well. Begins
        with the next one, since most holders of a common beginning hold no more than that.
        """
        low, high = known, len(digests)
        middle = low + 1
        while low < high:
            digest = digests[middle - 1]
            if digest in self.tables[digest & _TABLE_MASK]:
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    def remember(self, digests: Sequence[int]) -> None:
        """Mark all `digests` as used, and hold those that are new as far as there is room.

        The last goes first: a beginning must outlive what continues it.
        """
        tables = self.tables
        for digest in reversed(digests):
            table = tables[digest & _TABLE_MASK]
            epoch = table.get(digest)
            if epoch == self._epoch:
                continue
            if epoch is None:
                if self.num_blocks >= self._max_blocks and not self._make_room():
                    continue
                self.num_blocks += 1
            table[digest] = self._epoch
            self._append(digest)

    def sweep(self, num_looks: int) -> None:
        """Look at that many log entries, oldest first, and evict those not used since."""
        log = self._log
        for _ in range(min(num_looks, len(log))):
            digest = log.popleft()
            table = self.tables[digest & _TABLE_MASK]
            if table.get(digest) == self._num_swept // self._epoch_blocks:
                del table[digest]
                self.num_blocks -= 1
            self._num_swept += 1

    def _make_room(self) -> bool:
        """Evict one block, looking at a few entries only; return whether there is room.

        When all of them were used again later, a new block is not held this time: a long run of
        such entries is worked off over several calls instead of in one.
        """
        for _ in range(_ROOM_LOOKS):
            self.sweep(1)
            if self.num_blocks < self._max_blocks:
                return True
        return False

    def _append(self, digest: int) -> None:
        self._log.append(digest)
        self._left_in_epoch -= 1
        if self._left_in_epoch == 0:
            self._left_in_epoch = self._epoch_blocks
            self._epoch += 1
        if len(self._log) > 2 * self._max_blocks:
            # Bounds the log: a block that twice the bound of uses went past is evicted, too.
            self.sweep(2)


class PrefixIndex:
    """One BlockStore per worker, and the upkeep that keeps every call short.

    Args:
        max_chars: how many bytes of prompt text one worker's store may stand for, at any time.
        eviction_interval_s: how often stores close to that bound are swept ahead of need.
    """

    __slots__ = (
        "_crowded", "_interval_s", "_low_water_blocks", "_max_blocks", "_retired", "_stores",
        "_sweeps_at_s",
    )  # fmt: skip

    def __init__(self, max_chars: int, eviction_interval_s: float) -> None:
        self._max_blocks = max_chars // BLOCK_BYTES
        self._low_water_blocks = self._max_blocks - self._max_blocks // 10
        self._interval_s = eviction_interval_s
        self._sweeps_at_s: float | None = None
        self._stores: dict[str, BlockStore] = {}
        self._crowded: list[BlockStore] = []
        self._retired: list[BlockStore] = []

    def num_chars(self, worker_id: str) -> int:
        """Return how many bytes of prompt text are remembered for a worker."""
        store = self._stores.get(worker_id)
        return 0 if store is None else store.num_blocks * BLOCK_BYTES

    def num_retired_chars(self) -> int:
        """Return the remains of forgotten workers that upkeep has not freed yet."""
        return sum(store.num_blocks for store in self._retired) * BLOCK_BYTES

    def best_match(
        self, digests: Sequence[int], candidates: Sequence[WorkerT]
    ) -> tuple[int, list[WorkerT]]:
        """Return how many leading blocks the best match has, and all candidates that have it.

        (0, []) when no candidate holds even the first block.
        """
        best = 0
        holders: list[WorkerT] = []
        if not digests:
            return best, holders
        stores = self._stores
        probe = digests[0]
        slot = probe & _TABLE_MASK
        for worker in candidates:
            store = stores.get(worker.worker_id)
            if store is None or probe not in store.tables[slot]:
                continue
            depth = store.depth(digests, max(best, 1))
            if depth > best:
                best = depth
                probe = digests[depth - 1]
                slot = probe & _TABLE_MASK
                holders = [worker]
            else:
                holders.append(worker)
        return best, holders

    def emptiest(self, candidates: Sequence[WorkerT]) -> list[WorkerT]:
        """Return all candidates for which the least is remembered."""
        fewest = self._max_blocks + 1
        found: list[WorkerT] = []
        for worker in candidates:
            store = self._stores.get(worker.worker_id)
            num_blocks = 0 if store is None else store.num_blocks
            if num_blocks < fewest:
                fewest = num_blocks
                found = [worker]
            elif num_blocks == fewest:
                found.append(worker)
        return found

    def remember(self, worker_id: str, digests: Sequence[int]) -> None:
        """Note that a worker is sent a prompt with these digests."""
        store = self._stores.get(worker_id)
        if store is None:
            store = self._stores[worker_id] = BlockStore(self._max_blocks)
        store.remember(digests)

    def forget(self, worker_id: str) -> None:
        """Drop a worker: it matches nothing from here on; `maintain` frees its memory in slices."""
        store = self._stores.pop(worker_id, None)
        if store is not None:
            self._retired.append(store)

    def maintain(self, now_s: float) -> None:
        """Do a bounded slice of the upkeep; call it with every decision."""
        if self._sweeps_at_s is None:
            self._sweeps_at_s = now_s + self._interval_s
        elif now_s >= self._sweeps_at_s:
            self._sweeps_at_s = now_s + self._interval_s
            self._crowded = [s for s in self._stores.values() if self._is_crowded(s)]
        if self._crowded:
            self._crowded[-1].sweep(_SLICE_LOOKS)
            if not self._is_crowded(self._crowded[-1]):
                self._crowded.pop()
        if self._retired:
            self._retired[-1].sweep(_SLICE_LOOKS)
            if self._retired[-1].is_blank:
                self._retired.pop()

    def _is_crowded(self, store: BlockStore) -> bool:
        return store.num_blocks > self._low_water_blocks
