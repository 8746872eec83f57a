"""Everything that exchanges of one router share. Built once by the composition root."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hfx_transfer.handoff import RoomAllocator

from hfx_router.auth import ApiKeys
from hfx_router.exchange.abort import Aborter
from hfx_router.exchange.gate import AdmissionGate
from hfx_router.exchange.promises import Promises
from hfx_router.exchange.request_headers import RequestIds
from hfx_router.metrics.recorder import Recorder
from hfx_router.outbox import Outbox
from hfx_router.scheduling.place import Desk
from hfx_router.upstream.pool import ConnectionPool
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.retry import RetryBudget, RetryConfig
from hfx_sgl.policy.view import SelectionPolicy
from hfx_sgl.types import Role

if TYPE_CHECKING:
    from hfx_router.exchange.base import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeConfig:
    """How exchanges behave."""

    is_pd: bool = False
    request_timeout_s: float = 1800.0
    connect_timeout_s: float = 5.0
    upstream_idle_timeout_s: float = 4.0
    cors_origins: frozenset[bytes] = frozenset()
    """Origins that browsers may call from; empty allows every origin."""
    names_workers: bool = False
    """Whether answers carry headers that name the workers."""


@dataclass(slots=True, kw_only=True)
class Service:
    """The collaborators of exchanges, and the set of exchanges under way."""

    config: ExchangeConfig
    now_s: Callable[[], float]
    rng: random.Random
    registry: Registry
    policies: dict[Role, SelectionPolicy]
    recorder: Recorder
    rooms: RoomAllocator
    pairs: PairBook
    """Which prefill worker may hand over to which decode worker. Empty where nobody watches."""
    retry: RetryConfig
    retry_budget: RetryBudget
    api_keys: ApiKeys
    request_ids: RequestIds
    promises: Promises
    aborter: Aborter
    gate: AdmissionGate | None
    desk: Desk | None
    """Where requests get their places with the scheduler, who says when and where they are sent;
    None leaves that to `policies`, at once."""
    outbox: Outbox
    rid_prefix: str
    """Begins the ids under which workers know requests; random, so that routers do not collide."""
    exchanges: "set[Exchange]" = field(default_factory=set)
    _pools: dict[tuple[str, int], ConnectionPool] = field(default_factory=dict)
    _pool_of: dict[str, ConnectionPool] = field(default_factory=dict)

    def pool(self, worker: Worker) -> ConnectionPool:
        """Return the connections to the worker's address, which ranks of one server share."""
        pool = self._pool_of.get(worker.worker_id)
        if pool is None:
            address = (worker.host, worker.port)
            pool = self._pools.get(address)
            if pool is None:
                pool = self._pools[address] = ConnectionPool(
                    *address,
                    now_s=self.now_s,
                    outbox=self.outbox,
                    connect_timeout_s=self.config.connect_timeout_s,
                    idle_timeout_s=self.config.upstream_idle_timeout_s,
                )
            self._pool_of[worker.worker_id] = pool
        return pool

    def forget(self, worker: Worker) -> None:
        """A worker has left for good: let go of its connections once nobody uses them."""
        pool = self._pool_of.pop(worker.worker_id, None)
        if pool is not None and pool not in self._pool_of.values():
            del self._pools[worker.host, worker.port]
            pool.retire()

    def sweep(self) -> None:
        """Act on everything whose time is up. Called a few times a second."""
        now_s = self.now_s()
        if self.gate is not None:
            self.gate.sweep()
        for exchange in [e for e in self.exchanges if e.deadline_s <= now_s]:
            exchange.timed_out()
        for pool in self._pools.values():
            pool.close_stale()

    def close(self) -> None:
        """End every exchange and close every connection to workers."""
        for exchange in list(self.exchanges):
            exchange.client_gone()
        for pool in self._pools.values():
            pool.close()
