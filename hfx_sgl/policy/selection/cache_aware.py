"""cache_aware: back to the worker that has probably cached the prompt's beginning."""

from collections.abc import Sequence

from hfx_sgl.policy.prefix_index import (
    BLOCK_BYTES,
    MAX_INDEXED_BYTES,
    PrefixIndex,
    block_digests,
)
from hfx_sgl.policy.selection.balance import is_imbalanced
from hfx_sgl.policy.selection.config import SelectionConfig
from hfx_sgl.policy.selection.least_load import LeastLoad
from hfx_sgl.policy.view import RequestView, WorkerT


class CacheAware:
    """Follows a prefix match while loads are balanced, and the load when they are not."""

    __slots__ = ("_config", "_index", "_least_load")

    def __init__(self, config: SelectionConfig) -> None:
        self._config = config
        self._index = PrefixIndex(config.max_tree_chars, config.eviction_interval_s)
        self._least_load = LeastLoad()

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the candidate to use, and remember the prompt for it.

        A prompt shorter than a block can match nothing; it goes to the least loaded candidate.
        """
        index = self._index
        index.maintain(now_s)
        digests = block_digests(request.prompt)
        if not digests or is_imbalanced(self._config, candidates):
            worker = self._least_load.select(request, candidates, now_s)
        else:
            num_blocks, holders = index.best_match(digests, candidates)
            indexed_bytes = min(len(request.prompt), MAX_INDEXED_BYTES)
            if num_blocks * BLOCK_BYTES > self._config.cache_threshold * indexed_bytes:
                worker = least_loaded(holders)
            else:
                worker = least_loaded(index.emptiest(candidates))
        if digests:
            index.remember(worker.worker_id, digests)
        return worker

    def forget(self, worker_id: str) -> None:
        """Drop every prompt remembered for the worker."""
        self._index.forget(worker_id)
        self._least_load.forget(worker_id)


def least_loaded(workers: Sequence[WorkerT]) -> WorkerT:
    """Return the worker with the fewest requests in flight, the first when equal."""
    best = workers[0]
    for worker in workers:
        if worker.num_inflight < best.num_inflight:
            best = worker
    return best
