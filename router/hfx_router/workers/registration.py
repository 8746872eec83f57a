"""Brings workers in, changes them and lets them go. What takes time is a job with a status."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any
from uuid import uuid4

import structlog

from hfx_router.workers.jobs import JobBoard, JobState, JobStatus, JobType
from hfx_router.workers.probe import (
    DEFAULT_BOOTSTRAP_PORT,
    NotReady,
    ProbeOutcome,
    Refused,
    WorkerFacts,
)
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec, split_worker_url
from hfx_sgl.errors import ConflictError, NotFoundError
from hfx_sgl.types import Role

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.25
"""A server that is up already should cost nobody a noticeable wait."""

DRAIN_POLL_S = 0.1
"""How often a draining worker's legs are counted; a leg takes far longer than that to matter."""


class Registrar:
    """Runs the registration and removal jobs of one router process.

    Args:
        probe: asks a worker once; `Prober.probe`.
        unix_time_s: the wall time shown in job statuses.
        startup_timeout_s: how long a worker may take to become ready. Half an hour, as in
            sglang-router: large models take long to load.
        check_interval_s: the longest pause between two probes of a starting worker.
        drain_timeout_s: how long a removed worker's record waits for its legs in flight;
            sglang-router's grace period.
        new_id: returns a fresh worker id, a UUID.
    """

    def __init__(
        self,
        registry: Registry,
        probe: Callable[[WorkerSpec], Awaitable[ProbeOutcome]],
        unix_time_s: Callable[[], float],
        *,
        startup_timeout_s: float = 1800.0,
        check_interval_s: float = 30.0,
        drain_timeout_s: float = 180.0,
        new_id: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._registry = registry
        self._probe = probe
        self._startup_timeout_s = startup_timeout_s
        self._check_interval_s = check_interval_s
        self._drain_timeout_s = drain_timeout_s
        self._new_id = new_id
        self._pending: dict[str, WorkerSpec] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.jobs = JobBoard(unix_time_s)

    def submit(self, spec: WorkerSpec) -> str:
        """Start to register a worker and return its id.

        Raises:
            ConfigError: the URL is not one that this router can reach.
            ConflictError: a worker of this URL and role is there, or on its way.
        """
        address = split_worker_url(spec.url)
        spec = replace(spec, url=spec.url.rstrip("/"))
        for other in self._specs():
            if other.role is spec.role and split_worker_url(other.url) == address:
                raise ConflictError(
                    f"a {spec.role} worker at {spec.url} is registered already", param="url"
                )
        for worker_id, status in self.jobs.items():
            if status.state is JobState.FAILED and status.worker_url == spec.url:
                self.jobs.forget(worker_id)
        worker_id = self._new_id()
        self._pending[worker_id] = spec
        self.jobs.put(worker_id, JobType.ADD, spec.url, JobState.PENDING)
        self._start(worker_id, self._register(worker_id, spec))
        return worker_id

    def update(self, worker_id: str, change: Callable[[WorkerSpec], WorkerSpec]) -> None:
        """Change a registered worker's spec; url and role must stay.

        Raises:
            NotFoundError: no such worker.
            ConflictError: it is still being registered.
        """
        worker = self._registry.get(worker_id)
        if worker is None:
            if worker_id in self._pending:
                raise ConflictError(f"Worker {worker_id} is still being registered")
            raise NotFoundError(f"Worker {worker_id} not found", code="WORKER_NOT_FOUND")
        self._registry.update(worker, change(worker.spec))

    def remove(self, worker_id: str) -> None:
        """Take a worker out of selection at once; its record goes when its legs are done.

        A registration under way is given up, a failed one forgotten.

        Raises:
            NotFoundError: no such worker and no job of that id.
        """
        worker = self._registry.get(worker_id)
        if worker is not None:
            if not worker.is_draining:
                self._drain(worker)
            return
        if self.jobs.get(worker_id) is None:
            raise NotFoundError(f"Worker {worker_id} not found", code="WORKER_NOT_FOUND")
        if worker_id in self._pending:
            del self._pending[worker_id]
            self._tasks[worker_id].cancel()
        self.jobs.forget(worker_id)

    async def settled(self, worker_id: str) -> JobStatus | None:
        """Wait until the running job of a worker is over and return its last status."""
        task = self._tasks.get(worker_id)
        if task is not None:
            await asyncio.wait([task])
        return self.jobs.get(worker_id)

    async def stop(self) -> None:
        """Give up every running job."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _specs(self) -> list[WorkerSpec]:
        """Return the specs that hold an address; a draining worker's is free to be taken again."""
        held = [worker.spec for worker in self._registry.workers if not worker.is_draining]
        return held + list(self._pending.values())

    def _start(self, worker_id: str, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks[worker_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(worker_id, None))

    async def _register(self, worker_id: str, spec: WorkerSpec) -> None:
        try:
            outcome = await self._await_ready(worker_id, spec)
        except Exception as exc:
            # The root of a background task: the job must not hang as "processing" for ever.
            _log.exception("worker_registration_crashed", worker=spec.url)
            outcome = Refused(reason=f"internal error: {type(exc).__name__}: {exc}")
        finally:
            self._pending.pop(worker_id, None)
        if isinstance(outcome, WorkerFacts):
            for worker in self._records(worker_id, spec, outcome):
                self._registry.add(worker)
            self.jobs.put(worker_id, JobType.ADD, spec.url, JobState.COMPLETED)
            _log.info("worker_registered", worker=spec.url, role=spec.role, worker_id=worker_id)
            return
        self.jobs.put(worker_id, JobType.ADD, spec.url, JobState.FAILED, outcome.reason)
        _log.error(
            "worker_registration_failed", worker=spec.url, role=spec.role, reason=outcome.reason
        )

    async def _await_ready(self, worker_id: str, spec: WorkerSpec) -> WorkerFacts | Refused:
        """Probe with growing pauses until the worker is ready or its time is up."""
        pause_s = FIRST_PAUSE_S
        reason = "it was never asked"
        self.jobs.put(worker_id, JobType.ADD, spec.url, JobState.PROCESSING)
        try:
            async with asyncio.timeout(self._startup_timeout_s):
                while True:
                    outcome = await self._probe(spec)
                    if not isinstance(outcome, NotReady):
                        return outcome
                    reason = outcome.reason
                    self.jobs.put(worker_id, JobType.ADD, spec.url, JobState.PROCESSING, reason)
                    await asyncio.sleep(min(pause_s, self._check_interval_s))
                    pause_s *= 2
        except TimeoutError:
            return Refused(
                reason=f"not ready after {self._startup_timeout_s:g} s; last answer: {reason}"
            )

    def _records(self, worker_id: str, spec: WorkerSpec, facts: WorkerFacts) -> list[Worker]:
        """Return the record of the worker, or one for each of its data-parallel ranks."""
        if not spec.dp_aware or facts.dp_size == 1:
            return [self._record(worker_id, spec, facts)]
        ids = [worker_id, *(self._new_id() for _ in range(1, facts.dp_size))]
        return [
            self._record(rank_id, replace(spec, dp_rank=rank), facts)
            for rank, rank_id in enumerate(ids)
        ]

    def _record(self, worker_id: str, spec: WorkerSpec, facts: WorkerFacts) -> Worker:
        worker = self._registry.new_worker(worker_id, spec)
        worker.metadata = dict(facts.metadata)
        worker.model_id = spec.model_id or facts.model_id or "unknown"
        if spec.role is Role.PREFILL and spec.bootstrap_port is None:
            worker.bootstrap_port = facts.bootstrap_port or DEFAULT_BOOTSTRAP_PORT
        worker.pairing = facts.pairing
        worker.is_probed = True
        return worker

    def _drain(self, worker: Worker) -> None:
        self._registry.drain(worker)
        self.jobs.forget(worker.worker_id)
        if worker.num_inflight == 0:
            self._registry.remove(worker.worker_id)
            return
        self.jobs.put(
            worker.worker_id,
            JobType.REMOVE,
            worker.shown_url,
            JobState.PROCESSING,
            f"waiting for {worker.num_inflight} requests in flight",
        )
        self._start(worker.worker_id, self._await_drained(worker))

    async def _await_drained(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(self._drain_timeout_s):
                # Legs count in a plain integer; an event would cost the byte path more.
                while worker.num_inflight > 0:  # noqa: ASYNC110
                    await asyncio.sleep(DRAIN_POLL_S)
        except TimeoutError:
            _log.warning(
                "worker_drain_timed_out", worker=worker.shown_url, num_inflight=worker.num_inflight
            )
        finally:
            self._registry.remove(worker.worker_id)
            self.jobs.forget(worker.worker_id)
