"""Follows the KV caches of all workers that tell of theirs, as workers come and go."""

import asyncio
from typing import TYPE_CHECKING

import structlog

from hfx_router.estimates.kv_messages import KvSource, kv_source
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.types import Role

if TYPE_CHECKING:
    import zmq.asyncio

_log = structlog.get_logger(__name__)


class KvEvents:
    """One task per worker with a cache that prompts are computed into: all but decode workers.

    `pyzmq` is imported when the first worker offers events; without it, one warning says so and
    nothing is followed.
    """

    def __init__(self, registry: Registry, index: BlockIndex) -> None:
        self._registry = registry
        self._index = index
        self._tasks: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._context: zmq.asyncio.Context | None = None
        self._is_off = False

    def start(self) -> None:
        """Follow the workers that are there and those that come."""
        self._registry.subscribe(self._workers_changed)
        self._workers_changed()

    async def stop(self) -> None:
        """Follow nobody any more."""
        self._is_off = True
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)

    def _workers_changed(self) -> None:
        if self._is_off:
            return
        present = {
            worker.worker_id: worker
            for worker in self._registry.workers
            if worker.is_probed and worker.role is not Role.DECODE
        }
        for worker_id, (worker, task) in list(self._tasks.items()):
            if present.get(worker_id) is not worker:
                del self._tasks[worker_id]
                task.cancel()
        for worker_id, worker in present.items():
            if worker_id not in self._tasks:
                source = kv_source(worker)
                if source is not None:
                    self._follow(worker, source)

    def _follow(self, worker: Worker, source: KvSource) -> None:
        try:
            import zmq.asyncio

            from hfx_router.estimates.kv_follower import KvFollower
        except ModuleNotFoundError:
            self._is_off = True
            _log.warning(
                "kv_events_not_followed",
                notice="workers offer KV events; to follow them install the extra `kv-events` "
                "(pip install 'hfx-sgl[kv-events]')",
            )
            return
        if self._context is None:
            self._context = zmq.asyncio.Context()
        follower = KvFollower(worker.worker_id, source, self._index, self._context)
        task = asyncio.get_running_loop().create_task(follower.run())
        self._tasks[worker.worker_id] = worker, task
        _log.info("kv_events_followed", worker=worker.shown_url, endpoint=source.endpoint)
