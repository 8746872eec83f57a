"""Copies of the worker records, taken once a scrape, so that all families of it agree."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from hfx_router.metrics.labels import clean
from hfx_router.workers.worker import Worker
from hfx_sgl.policy.breaker import BreakerState
from hfx_sgl.types import Role

CB_STATE_CODES: dict[BreakerState, int] = {
    BreakerState.CLOSED: 0,
    BreakerState.OPEN: 1,
    BreakerState.HALF_OPEN: 2,
}


class RegistryView(Protocol):
    """Where the exporter finds the workers."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Every registered worker, whatever its state."""
        ...


class WorkerState(StrEnum):
    """Whether a worker takes requests, and if not, why not; the first that applies."""

    DRAINING = "draining"
    STARTING = "starting"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"
    READY = "ready"


class WorkerReading(NamedTuple):
    """One worker at the moment of the scrape, with label-ready text."""

    name: str
    """`URL`, or `URL@RANK` for a data-parallel rank."""
    role: Role
    model: str
    state: WorkerState
    is_healthy: bool
    num_inflight: int
    num_selected: int
    num_ok: int
    num_failed: int
    cb_state: int
    consecutive_failures: int
    consecutive_successes: int
    transitions: tuple[tuple[str, str, int], ...]


def read_worker(worker: Worker) -> WorkerReading:
    """Copy one record; raises what a malformed record raises."""
    breaker = worker.breaker
    return WorkerReading(
        name=clean(worker.shown_url),
        role=Role(worker.role),
        model=clean(worker.model_id),
        state=state_of(worker),
        is_healthy=bool(worker.health.is_healthy),
        num_inflight=int(worker.num_inflight),
        num_selected=int(worker.num_selected),
        num_ok=int(worker.num_ok),
        num_failed=int(worker.num_failed),
        cb_state=CB_STATE_CODES[breaker.state],
        consecutive_failures=int(breaker.consecutive_failures),
        consecutive_successes=int(breaker.consecutive_successes),
        transitions=tuple(
            (old.value, new.value, count) for (old, new), count in breaker.num_transitions.items()
        ),
    )


def state_of(worker: Worker) -> WorkerState:
    """Return the first reason for which a worker gets no requests, or READY."""
    if worker.is_draining:
        return WorkerState.DRAINING
    if not worker.is_probed:
        return WorkerState.STARTING
    if not worker.health.is_healthy:
        return WorkerState.UNHEALTHY
    return WorkerState.READY if worker.breaker.allows else WorkerState.EJECTED


def read_workers(workers: Iterable[Worker]) -> tuple[list[WorkerReading], int]:
    """Return the readings and the number of records that could not be read.

    One bad record must not hide the others from the operator who is looking for it.
    """
    readings: list[WorkerReading] = []
    num_unreadable = 0
    for worker in workers:
        try:
            readings.append(read_worker(worker))
        except (AttributeError, LookupError, TypeError, ValueError):
            num_unreadable += 1
    return readings, num_unreadable


def one_for_each_name(readings: Iterable[WorkerReading]) -> list[WorkerReading]:
    """Return the first reading of each name: Prometheus refuses a scrape with a series twice."""
    by_name: dict[str, WorkerReading] = {}
    for reading in readings:
        by_name.setdefault(reading.name, reading)
    return list(by_name.values())
