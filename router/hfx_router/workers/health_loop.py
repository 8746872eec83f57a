"""Checks the health of every registered worker. The registry draws the conclusions."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import structlog

from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec
from hfx_sgl.types import Role

_log = structlog.get_logger(__name__)

POLL_INTERVAL_S = 0.5
"""How late an open breaker may half-open; its shortest useful timeout is a second."""

SUSPICION_SPACING_S = 1.0
"""The least pause between two checks of a server, however many requests cast doubt on it.

SGLang's own /health takes a second on an idle server, so asking oftener learns nothing.
"""

RECOVERY_INTERVAL_S = 5.0
"""The longest pause between checks of an unhealthy server: it can lose nothing, and may be back."""

ServerKey = tuple[str, Role]
"""All data-parallel ranks of one server in one role share their checks."""


class HealthLoop:
    """One task per server, and one that lets open breakers half-open.

    Args:
        is_alive: asks a worker once, with a timeout in seconds; `Prober.is_alive`.
        rng: spreads the first checks over an interval, so that servers are not asked in lockstep.
        on_checked: told the role and the result of every check.
        interval_s: between two checks of a server (sglang-router's default).
        timeout_s: a real SGLang /health needs at least a second on an idle server.
        is_enabled: False checks nobody; breakers still half-open.
    """

    def __init__(
        self,
        registry: Registry,
        is_alive: Callable[[WorkerSpec, float], Awaitable[bool]],
        rng: Random,
        on_checked: Callable[[Role, bool], None],
        *,
        interval_s: float = 60.0,
        timeout_s: float = 5.0,
        is_enabled: bool = True,
    ) -> None:
        self._registry = registry
        self._is_alive = is_alive
        self._rng = rng
        self._on_checked = on_checked
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._is_enabled = is_enabled
        self._wakes: dict[ServerKey, asyncio.Event] = {}
        self._tasks: dict[ServerKey, asyncio.Task[None]] = {}
        self._poll_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the registry; needs a running event loop."""
        self._poll_task = asyncio.create_task(self._poll())
        if self._is_enabled:
            self._registry.on_suspect = self._suspect
            self._registry.subscribe(self._follow)
            self._follow()

    async def stop(self) -> None:
        """Cancel every check and wait until they are gone."""
        self._is_enabled = False
        tasks = list(self._tasks.values())
        if self._poll_task is not None:
            tasks.append(self._poll_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._wakes.clear()

    def _suspect(self, worker: Worker) -> None:
        wake = self._wakes.get(_key(worker))
        if wake is not None:
            wake.set()

    def _follow(self) -> None:
        """Start a task for every server that is new and stop those of servers that left."""
        if not self._is_enabled:
            return
        wanted = {_key(worker) for worker in self._registry.workers if _is_checked(worker)}
        for key in self._tasks.keys() - wanted:
            self._tasks.pop(key).cancel()
            del self._wakes[key]
        for key in wanted - self._tasks.keys():
            self._wakes[key] = asyncio.Event()
            self._tasks[key] = asyncio.create_task(self._supervise(key, self._wakes[key]))

    async def _supervise(self, key: ServerKey, wake: asyncio.Event) -> None:
        workers = self._checked(key)
        pause_s = self._rng.uniform(0, self._interval_of(workers[0].spec) if workers else 0)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await wake.wait()
            try:
                pause_s = await self._check(key)
            except Exception:
                # The root of a background task: whatever went wrong, this server stays checked.
                _log.exception("health_check_crashed", worker=key[0])
                pause_s = self._interval_s
            # A doubt that came up during the check has been answered by it.
            wake.clear()
            spacing_s = min(SUSPICION_SPACING_S, pause_s)
            await asyncio.sleep(spacing_s)
            pause_s -= spacing_s

    async def _check(self, key: ServerKey) -> float:
        """Check a server once and return the pause until the next time."""
        workers = self._checked(key)
        if not workers:
            return self._interval_s
        spec = workers[0].spec
        timeout_s = self._timeout_s if spec.health.timeout_s is None else spec.health.timeout_s
        is_alive = await self._is_alive(spec, timeout_s)
        self._on_checked(key[1], is_alive)
        workers = self._checked(key)
        for worker in workers:
            self._registry.record_check(worker, is_alive)
        interval_s = self._interval_of(spec)
        if not all(worker.health.is_healthy for worker in workers):
            return min(interval_s, RECOVERY_INTERVAL_S)
        # A first failure is confirmed or refuted at once: at the usual interval the threshold
        # would keep a dead server in service for minutes.
        return interval_s if is_alive else min(interval_s, SUSPICION_SPACING_S)

    def _interval_of(self, spec: WorkerSpec) -> float:
        return self._interval_s if spec.health.interval_s is None else spec.health.interval_s

    def _checked(self, key: ServerKey) -> list[Worker]:
        return [
            worker
            for worker in self._registry.workers
            if _key(worker) == key and _is_checked(worker)
        ]

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            self._registry.poll()


def _key(worker: Worker) -> ServerKey:
    return worker.base_url, worker.role


def _is_checked(worker: Worker) -> bool:
    return worker.is_probed and not worker.is_draining and not worker.spec.disable_health_check
