"""Which worker has probably cached how much of a prompt."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar

from hfx_sgl.policy.prefix_index import BlockStore
from hfx_sgl.policy.scheduler.entry import Entry

V = TypeVar("V")

_MAX_HOLDERS = 4
"""So many workers are looked at for one prompt; those that were sent such a one last."""
_MAX_MARKS = 100_000


class CachedPrefixes:
    """A memory of what each worker was sent, as large as its KV cache.

    Who may have a prompt is found by marks at its first block, its second, fourth and so on: the
    workers that were sent the same up to there, the latest last. So that the cost does not grow
    with the number of workers, only a few of them are kept, and looked at.

    Args:
        share: how much of a worker's KV holds prefixes; the rest is taken by running requests.
        grain_tokens: prefixes are told apart no finer than this, which bounds what a long prompt
            costs; one digest of so many is remembered.
    """

    def __init__(self, share: float, grain_tokens: float) -> None:
        self._share = share
        self._grain_tokens = grain_tokens
        self._stores: dict[str, BlockStore] = {}
        self._capacities: dict[str, int] = {}
        self._marks: OrderedDict[int, tuple[str, ...]] = OrderedDict()
        """By digest."""
        self._changed_at: OrderedDict[int, int] = OrderedDict()
        """By first digest: the version in which it last was part of a prompt that was sent."""
        self._version = 0
        self._left_at = 0
        """The version in which a worker last left."""

    def add_worker(self, worker_id: str, kv_capacity_tokens: int) -> None:
        """A worker joined; nothing is cached there."""
        self._capacities[worker_id] = kv_capacity_tokens

    def remove_worker(self, worker_id: str) -> None:
        """A worker left."""
        self._stores.pop(worker_id, None)
        del self._capacities[worker_id]
        self._version += 1
        self._left_at = self._version

    def is_stale(self, entry: Entry) -> bool:
        """Whether there may be more to find for it than when it was looked up, or less."""
        version = entry.prefix_version
        if version == self._version:
            return False
        grains = entry.grains
        return bool(grains) and (
            version < self._left_at or version < self._changed_at.get(grains[0], 0)
        )

    def cut(self, entry: Entry) -> None:
        """Note in the entry which of its digests count."""
        facts = entry.facts
        if facts.block_digests:
            stride = max(1, round(self._grain_tokens / facts.block_tokens))
            entry.grains = facts.block_digests[stride - 1 :: stride]
            entry.tokens_per_grain = stride * facts.block_tokens

    def look_up(self, entry: Entry) -> None:
        """Note in the entry how much of its prompt workers have, and who has most."""
        facts = entry.facts
        entry.prefix_version = self._version
        entry.hit_tokens = {}
        entry.home_id = None
        most_tokens = 0
        for worker_id in self._holders(entry.grains):
            depth = self._stores[worker_id].depth(entry.grains, 0)
            # One token at least is always computed.
            tokens = min(math.floor(depth * entry.tokens_per_grain), facts.num_prompt_tokens - 1)
            if tokens > 0:
                entry.hit_tokens[worker_id] = tokens
                if tokens > most_tokens:
                    entry.home_id, most_tokens = worker_id, tokens

    def remember(self, worker_id: str, entry: Entry) -> None:
        """A worker is sent the prompt."""
        digests = entry.grains
        if not digests:
            return
        store = self._stores.get(worker_id)
        if store is None:
            tokens = self._share * self._capacities[worker_id]
            max_blocks = max(1, math.floor(tokens / entry.tokens_per_grain))
            store = self._stores[worker_id] = BlockStore(max_blocks)
        store.remember(digests)
        self._version += 1
        _touch(self._changed_at, digests[0], self._version)
        position = 1
        while position <= len(digests):
            digest = digests[position - 1]
            others = self._marks.get(digest, ())
            if not others or others[-1] != worker_id:
                kept = [other for other in others if other != worker_id]
                others = (*kept[1 - _MAX_HOLDERS :], worker_id)
            _touch(self._marks, digest, others)
            position *= 2

    def _holders(self, digests: Sequence[int]) -> list[str]:
        """Return workers that were sent a prompt that begins like it, the longest such first."""
        found: list[str] = []
        position = 1 << len(digests).bit_length() >> 1
        while position:
            for worker_id in reversed(self._marks.get(digests[position - 1], ())):
                if worker_id not in found and worker_id in self._stores:
                    found.append(worker_id)
                    if len(found) == _MAX_HOLDERS:
                        return found
            position >>= 1
        return found


def _touch(table: OrderedDict[int, V], key: int, value: V) -> None:
    """Set a value, and drop that which was set the longest ago when there are too many."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > _MAX_MARKS:
        table.popitem(last=False)
