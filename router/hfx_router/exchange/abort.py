"""Tells workers to drop a request. A closed connection alone frees a worker only seconds later."""

import asyncio
from collections.abc import Sequence

import aiohttp
import structlog

from hfx_router.metrics.recorder import Recorder
from hfx_router.workers.worker import Worker

log = structlog.get_logger(__name__)


class Aborter:
    """Sends `/abort_request` in the background.

    Args:
        session: shared client session.
        recorder: counts outcomes.
        timeout_s: for one call; the worker answers from its front process, in milliseconds.
    """

    def __init__(
        self, session: aiohttp.ClientSession, recorder: Recorder, *, timeout_s: float
    ) -> None:
        self._session = session
        self._recorder = recorder
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._tasks: set[asyncio.Task[None]] = set()

    def abort(self, worker: Worker, rids: Sequence[str]) -> None:
        """Ask `worker` to drop the requests called `rids`; returns at once."""
        task = asyncio.get_running_loop().create_task(self._abort(worker, tuple(rids)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _abort(self, worker: Worker, rids: tuple[str, ...]) -> None:
        headers = {}
        if worker.spec.api_key is not None:
            headers["authorization"] = f"Bearer {worker.spec.api_key}"
        outcome = "sent"
        for rid in rids:
            try:
                async with self._session.post(
                    f"{worker.base_url}/abort_request",
                    json={"rid": rid, "abort_all": False},
                    headers=headers,
                    timeout=self._timeout,
                ):
                    pass
            except (aiohttp.ClientError, TimeoutError) as exc:
                outcome = "failed"
                log.debug("abort_failed", worker=worker.shown_url, error=str(exc))
        self._recorder.aborts[worker.spec.role, outcome] += 1

    async def drain(self) -> None:
        """Wait until every call has ended; each is bounded by its timeout."""
        if self._tasks:
            await asyncio.wait(self._tasks)
