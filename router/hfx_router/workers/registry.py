"""Owns the worker records and says which of them may be used. Does no I/O and starts no tasks."""

from collections.abc import Callable
from dataclasses import replace

import structlog

from hfx_router.workers.worker import Worker, WorkerSpec
from hfx_sgl.clock import Clock
from hfx_sgl.policy.breaker import Breaker, BreakerConfig
from hfx_sgl.policy.health import HealthConfig, HealthTracker
from hfx_sgl.types import Role

_log = structlog.get_logger(__name__)


class Registry:
    """All workers of one router process.

    `usable` and `workers` are cached tuples, rebuilt only when something about a worker
    changes, so the byte path reads them at no cost and may keep one for a whole request.

    Args:
        on_left: told of a worker that has left for good.
    """

    def __init__(
        self,
        clock: Clock,
        breaker_config: BreakerConfig,
        health_config: HealthConfig,
        on_left: Callable[[Worker], None],
    ) -> None:
        self._now_s = clock.now_s
        self._breaker_config = breaker_config
        self._health_config = health_config
        self._on_left = on_left
        self._by_id: dict[str, Worker] = {}
        self._usable: dict[Role, tuple[Worker, ...]] = dict.fromkeys(Role, ())
        self._listeners: list[Callable[[], None]] = []
        self.workers: tuple[Worker, ...] = ()
        """Every record, usable or not, in the order of registration. Read only."""
        self.on_suspect: Callable[[Worker], None] = lambda worker: None
        """Told of a worker whose health is in doubt; the health loop puts itself here."""

    def usable(self, role: Role) -> tuple[Worker, ...]:
        """Return the workers of a pool that may get requests, in the order of registration."""
        return self._usable[role]

    def get(self, worker_id: str) -> Worker | None:
        """Return a worker; None when there is none of that id."""
        return self._by_id.get(worker_id)

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after every change of `workers` or `usable`."""
        self._listeners.append(listener)

    def new_worker(self, worker_id: str, spec: WorkerSpec) -> Worker:
        """Return a record with a closed breaker and good health, for a worker that was probed."""
        return Worker(worker_id, spec, Breaker(self._breaker_config), self._new_tracker(spec))

    def add(self, worker: Worker) -> None:
        """Bring a worker in; it gets requests once it is probed."""
        self._by_id[worker.worker_id] = worker
        self._refresh()

    def update(self, worker: Worker, spec: WorkerSpec) -> None:
        """Replace how a worker is described; new health thresholds start from good health."""
        if (
            self._health_of(spec) != self._health_of(worker.spec)
            or spec.disable_health_check != worker.spec.disable_health_check
        ):
            worker.health = self._new_tracker(spec)
        worker.spec = spec
        self._refresh()

    def drain(self, worker: Worker) -> None:
        """Give a worker no more requests; its legs in flight go on."""
        worker.is_draining = True
        self._refresh()

    def remove(self, worker_id: str) -> None:
        """Drop a record at once; its legs in flight keep their reference and finish."""
        worker = self._by_id.pop(worker_id, None)
        if worker is not None:
            worker.is_draining = True
            self._on_left(worker)
            self._refresh()

    def record_success(self, worker: Worker) -> None:
        """Count a leg whose transport worked, whatever status the worker answered."""
        worker.num_ok += 1
        if worker.breaker.record_success(self._now_s()):
            self._breaker_changed(worker)

    def record_failure(self, worker: Worker) -> None:
        """Count a leg whose transport failed; the only thing that can open a breaker."""
        worker.num_failed += 1
        if worker.breaker.record_failure(self._now_s()):
            self._breaker_changed(worker)
        self.on_suspect(worker)

    def suspect(self, worker: Worker) -> None:
        """Ask for an early health check after a 5xx answer or a timeout.

        Both can be provoked by a client, so neither counts against the breaker.
        """
        self.on_suspect(worker)

    def record_check(self, worker: Worker, is_alive: bool) -> None:
        """Count the result of a health check."""
        if worker.health.record(is_alive):
            _log.info(
                "worker_health_changed",
                worker=worker.shown_url,
                role=worker.role,
                is_healthy=worker.health.is_healthy,
            )
            self._refresh()

    def poll(self) -> None:
        """Let time pass for the open breakers; to be called at least once a second."""
        for worker in self.workers:
            if worker.breaker.poll(self._now_s()):
                self._breaker_changed(worker)

    def _breaker_changed(self, worker: Worker) -> None:
        _log.info("worker_breaker_changed", worker=worker.shown_url, state=worker.breaker.state)
        self._refresh()

    def _new_tracker(self, spec: WorkerSpec) -> HealthTracker:
        return HealthTracker(self._health_of(spec), is_healthy=True)

    def _health_of(self, spec: WorkerSpec) -> HealthConfig:
        given = {
            name: value
            for name in ("failure_threshold", "success_threshold")
            if (value := getattr(spec.health, name)) is not None
        }
        return replace(self._health_config, **given)

    def _refresh(self) -> None:
        self.workers = tuple(self._by_id.values())
        for role in Role:
            self._usable[role] = tuple(
                worker for worker in self.workers if worker.role is role and is_usable(worker)
            )
        for listener in self._listeners:
            listener()


def is_usable(worker: Worker) -> bool:
    """Return whether a worker may get requests."""
    return (
        worker.is_probed
        and not worker.is_draining
        and worker.health.is_healthy
        and worker.breaker.allows
    )
