"""The KV memory of one engine with its prefix cache: who holds how much, and what is left."""

from hfx_sgl.engine.kv.pool import KvPool
from hfx_sgl.engine.kv.prefix_cache import PrefixCache
from hfx_sgl.engine.sequence import Sequence


class KvStore:
    """Pool and prefix tree in one. All changes of `Sequence.lock` and of its share go by here.

    A sequence holds the whole pages of its `num_kv_tokens`; `num_shared_tokens` of them belong
    to the tree, the rest is its own.
    """

    def __init__(self, capacity_tokens: int, page_tokens: int, has_prefix_cache: bool) -> None:
        self.page_tokens = page_tokens
        self._pool = KvPool(capacity_tokens, page_tokens)
        self._cache = PrefixCache(page_tokens)
        self._has_prefix_cache = has_prefix_cache

    @property
    def capacity_tokens(self) -> int:
        """Tokens that fit, in whole pages."""
        return self._pool.capacity_tokens

    @property
    def num_available_tokens(self) -> int:
        """Free now, or after eviction."""
        return self._pool.num_free_tokens + self._cache.num_evictable_tokens

    @property
    def num_used_tokens(self) -> int:
        """Neither free nor evictable."""
        return self._pool.num_used_tokens - self._cache.num_evictable_tokens

    def round_up(self, num_tokens: int) -> int:
        """Return the tokens of the pages that hold so many tokens."""
        return num_tokens + -num_tokens % self.page_tokens

    def alloc(self, num_tokens: int) -> None:
        """Take pages, evicting what has to be."""
        missing = num_tokens - self._pool.num_free_tokens
        if missing > 0:
            self._pool.free(self._cache.evict(missing))
        self._pool.alloc(num_tokens)

    def grow(self, sequence: Sequence, num_tokens: int) -> None:
        """Take the pages that a sequence needs for so many tokens more."""
        before = self.round_up(sequence.num_kv_tokens)
        sequence.num_kv_tokens += num_tokens
        self.alloc(self.round_up(sequence.num_kv_tokens) - before)

    def share(self, sequence: Sequence) -> int:
        """Lock the cached prefix of a sequence that holds nothing; return its length.

        One token at least is left to be computed.
        """
        if not self._has_prefix_cache:
            return 0
        cache = self._cache
        num_tokens = cache.match(sequence.prompt)
        if num_tokens >= sequence.num_fill_tokens:
            most = sequence.num_fill_tokens - 1
            num_tokens = most - most % self.page_tokens
        sequence.lock = cache.lock(sequence.prompt, num_tokens)
        sequence.num_shared_tokens = sequence.num_kv_tokens = num_tokens
        return num_tokens

    def keep_prompt(self, sequence: Sequence) -> None:
        """Put the prompt of a computed sequence into the tree."""
        lock = sequence.lock
        if lock is None:
            return
        sequence.lock, num_duplicates = self._cache.add(sequence.prompt, lock)
        sequence.num_shared_tokens = sequence.lock.num_tokens
        self._pool.free(num_duplicates)

    def release(self, sequence: Sequence) -> None:
        """Give back all that a sequence holds; what is in the tree becomes evictable."""
        self._pool.free(self.round_up(sequence.num_kv_tokens) - sequence.num_shared_tokens)
        if sequence.lock is not None:
            self._cache.unlock(sequence.lock)
            sequence.lock = None
        sequence.num_kv_tokens = sequence.num_shared_tokens = 0

    def clear(self) -> None:
        """Empty the prefix tree. Not while a sequence holds part of it."""
        self._pool.free(self._cache.clear())
