"""Which worker has probably cached how much of a prompt."""

import math
from collections.abc import Iterable

from hfx_sgl.policy.prefix_index import BlockStore
from hfx_sgl.policy.scheduler.entry import Entry


class CachedPrefixes:
    """A memory of what each worker was sent, as large as its KV cache.

    Args:
        share: how much of a worker's KV holds prefixes; the rest is taken by running requests.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._stores: dict[str, BlockStore] = {}
        self._capacities: dict[str, int] = {}

    def add_worker(self, worker_id: str, kv_capacity_tokens: int) -> None:
        """A worker joined; nothing is cached there."""
        self._capacities[worker_id] = kv_capacity_tokens

    def remove_worker(self, worker_id: str) -> None:
        """A worker left."""
        self._stores.pop(worker_id, None)
        del self._capacities[worker_id]

    def look_up(self, entry: Entry, worker_ids: Iterable[str]) -> None:
        """Note in the entry how much of its prompt each of the workers has."""
        facts = entry.facts
        digests = facts.block_digests
        entry.hit_tokens = {}
        if not digests:
            return
        for worker_id in worker_ids:
            store = self._stores.get(worker_id)
            if store is not None and (depth := store.depth(digests, 0)):
                # One token at least is always computed.
                tokens = min(math.floor(depth * facts.block_tokens), facts.num_prompt_tokens - 1)
                if tokens > 0:
                    entry.hit_tokens[worker_id] = tokens

    def remember(self, worker_id: str, entry: Entry) -> None:
        """A worker is sent the prompt."""
        if not entry.facts.block_digests:
            return
        store = self._stores.get(worker_id)
        if store is None:
            tokens = self._share * self._capacities[worker_id]
            max_blocks = max(1, math.floor(tokens / entry.facts.block_tokens))
            store = self._stores[worker_id] = BlockStore(max_blocks)
        store.remember(entry.facts.block_digests)
