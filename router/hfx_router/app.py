"""The composition root: builds the object graph of one router process, runs it, takes it down."""

import asyncio
import gc
import math
import random
import signal
from pathlib import Path

import aiohttp
import structlog
import uvloop
from hfx_transfer.handoff import RoomAllocator
from hfx_transfer.metrics import LinkCensus, TransferMetrics
from prometheus_client import CollectorRegistry

from hfx_router.auth import ApiKeys
from hfx_router.control.app import build_app
from hfx_router.control.context import AskTimeouts, ControlContext
from hfx_router.exchange.abort import Aborter
from hfx_router.exchange.endpoints import ENDPOINTS, PdSupport
from hfx_router.exchange.gate import AdmissionGate
from hfx_router.exchange.pd import PdExchange
from hfx_router.exchange.promises import Promises
from hfx_router.exchange.regular import RegularExchange
from hfx_router.exchange.request_headers import RequestIds
from hfx_router.exchange.service import ExchangeConfig, Service
from hfx_router.http1.request_reader import ParsedRequest, ReadLimits
from hfx_router.logs import configure_logs
from hfx_router.metrics.asgi import create_metrics_app
from hfx_router.metrics.exporter import ExportLabels, RouterCollector
from hfx_router.metrics.loop_lag import LoopLagMonitor
from hfx_router.metrics.recorder import DURATION_BOUNDS_S, Recorder
from hfx_router.metrics.scheduling_families import NO_SCHEDULER, SchedulingView
from hfx_router.outbox import TurnOutbox
from hfx_router.pairs.census import link_census
from hfx_router.pairs.watch import PairWatch
from hfx_router.scheduling.assembly import Scheduling
from hfx_router.server.asgi import AsgiApp
from hfx_router.server.connection import ClientConnection, Handler
from hfx_router.server.front import ClientTimeouts, ExchangeMaker, Front
from hfx_router.server.listener import Listener
from hfx_router.settings.core import (
    admission_config,
    breaker_config,
    health_config,
    link_config,
    policy_name,
    retry_config,
    selection_config,
    selection_name,
    slo_config,
    uses_scheduler,
    watches_pairs,
    worker_specs,
)
from hfx_router.settings.model import RouterSettings
from hfx_router.settings.notices import startup_notices, unbacked_in_use
from hfx_router.workers.ask import control_session
from hfx_router.workers.health_loop import HealthLoop
from hfx_router.workers.probe import Prober
from hfx_router.workers.registration import Registrar
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl import __version__
from hfx_sgl.clock import WallClock, unix_time_s
from hfx_sgl.code_form import code_form
from hfx_sgl.policy.admission import Admission
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.retry import RetryBudget
from hfx_sgl.policy.selection.catalog import make_policy
from hfx_sgl.policy.view import SelectionPolicy
from hfx_sgl.types import Role

log = structlog.get_logger(__name__)

_SWEEP_INTERVAL_S = 0.25
"""Granularity of every timeout on the byte path; a pass over 10,000 connections takes 1 ms."""

_LOOP_LAG_INTERVAL_S = 0.5

_GC_THRESHOLD = 20_000
"""Net allocations between two looks at the youngest objects; Python's 700 is a look every few
dozen requests."""


def run(settings: RouterSettings) -> int:
    """Run a router until it is told to stop; returns the exit status.

    Raises:
        ConfigError: something about the settings shows only now, such as a port in use.
    """
    configure_logs(
        level=settings.log_level,
        as_json=settings.log_json,
        log_dir=Path(settings.log_dir) if settings.log_dir else None,
    )
    for notice in (*unbacked_in_use(settings), *startup_notices(settings)):
        log.warning("setting_notice", notice=notice)
    return uvloop.run(_run(settings))


async def _run(settings: RouterSettings) -> int:
    async with control_session() as session:
        router = Router(settings, session)
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _on_signal, stop, router)
        await router.start()
        _calm_garbage_collection()
        await stop.wait()
        await router.stop()
    return 0


def _calm_garbage_collection() -> None:
    """Keep the collector off the byte path.

    What was built at start lives as long as the process, and requests leave no cycles behind, so
    looking at a few hundred thousand objects again and again finds nothing and costs milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 10, 10)


def _on_signal(stop: asyncio.Event, router: "Router") -> None:
    if stop.is_set():
        router.hurry()  # a second signal: do not wait for requests under way
    stop.set()


class Router:
    """One router process: everything it is made of, and its start and stop. Made in its loop."""

    def __init__(self, settings: RouterSettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._clock = WallClock()
        self._outbox = TurnOutbox(asyncio.get_running_loop().call_soon)
        rng = random.SystemRandom()
        self.recorder = Recorder(
            settings.prometheus_duration_buckets or DURATION_BOUNDS_S,
            slos=tuple(slo_config(settings).classes.values()),
        )
        policies = _policies(settings)
        self.registry = Registry(
            self._clock,
            breaker_config(settings),
            health_config(settings),
            lambda worker: self._worker_left(worker, policies),
        )
        self._collectors = CollectorRegistry()
        self.pairs = PairBook(link_config(settings))
        self.transfers = TransferMetrics(self._collectors, self._link_census)
        has_pairs = watches_pairs(settings)
        prober = Prober(
            session,
            health_endpoint=settings.health_check_endpoint,
            route_timeout_s=settings.pair_check_timeout_secs if has_pairs else None,
        )
        self.pair_watch = (
            PairWatch(
                self.registry,
                self.pairs,
                prober.pairing,
                self._clock,
                rng,
                self.transfers.probed,
                interval_s=settings.pair_check_interval_secs or math.inf,
                timeout_s=settings.pair_check_timeout_secs,
            )
            if has_pairs
            else None
        )
        self.registrar = Registrar(
            self.registry,
            prober.probe,
            unix_time_s,
            startup_timeout_s=settings.worker_startup_timeout_secs,
            check_interval_s=settings.worker_startup_check_interval,
            drain_timeout_s=settings.worker_drain_timeout_secs,
        )
        self.health_loop = HealthLoop(
            self.registry,
            prober.is_alive,
            rng,
            self._on_checked,
            interval_s=settings.health_check_interval_secs,
            timeout_s=settings.health_check_timeout_secs,
            is_enabled=not settings.disable_health_check,
        )
        self._api_keys = ApiKeys(
            settings.api_key,
            settings.control_plane_api_keys,
        )
        self.scheduling = (
            Scheduling(
                settings,
                self.registry,
                self.pairs,
                self.recorder,
                self._clock,
                self._outbox,
                self.transfers.handed_over,
            )
            if uses_scheduler(settings)
            else None
        )
        self.service = self._build_service(session, policies)
        self._is_draining = False
        self._front = self._build_front(build_app(self._control_context(session)), self._exchange)
        self._listener = Listener(self._front, settings.host, settings.port)
        self._metrics_front = self._build_front(self._metrics_app(), _no_exchange)
        self._metrics_listener = Listener(
            self._metrics_front, settings.prometheus_host, settings.prometheus_port
        )
        self._lag = LoopLagMonitor(self.recorder.loop_lag_s, self._clock, _LOOP_LAG_INTERVAL_S)
        self._sweeper: asyncio.Task[None] | None = None
        self._endpoints = {endpoint.path.encode(): endpoint for endpoint in ENDPOINTS}

    # --- building ---

    def _build_service(
        self, session: aiohttp.ClientSession, policies: dict[Role, SelectionPolicy]
    ) -> Service:
        settings = self._settings
        now_s = self._clock.now_s
        rng = random.Random(random.SystemRandom().getrandbits(128))
        admission = admission_config(settings)
        is_limited = admission.max_concurrent is not None or admission.rate_per_s is not None
        retry = retry_config(settings)
        return Service(
            config=ExchangeConfig(
                is_pd=settings.pd_disaggregation,
                request_timeout_s=settings.request_timeout_secs,
                connect_timeout_s=settings.upstream_connect_timeout_secs,
                upstream_idle_timeout_s=settings.upstream_idle_timeout_secs,
                cors_origins=frozenset(origin.encode() for origin in settings.cors_allowed_origins),
                names_workers=settings.response_worker_headers,
            ),
            now_s=now_s,
            rng=rng,
            registry=self.registry,
            policies=policies,
            recorder=self.recorder,
            rooms=RoomAllocator(rng),
            pairs=self.pairs,
            retry=retry,
            retry_budget=RetryBudget(retry),
            api_keys=self._api_keys,
            request_ids=RequestIds(settings.request_id_headers or (), rng),
            promises=Promises(slo_config(settings)),
            aborter=Aborter(session, self.recorder, timeout_s=settings.abort_timeout_secs),
            outbox=self._outbox,
            rid_prefix=f"{rng.getrandbits(64):016x}",
            gate=AdmissionGate(Admission(admission), self.recorder, now_s) if is_limited else None,
            desk=None if self.scheduling is None else self.scheduling.desk,
        )

    def _control_context(self, session: aiohttp.ClientSession) -> ControlContext:
        settings = self._settings
        return ControlContext(
            registry=self.registry,
            registrar=self.registrar,
            session=session,
            api_keys=self._api_keys,
            unix_time_s=unix_time_s,
            is_pd=settings.pd_disaggregation,
            is_draining=lambda: self._is_draining,
            is_dp_aware=settings.dp_aware,
            cors_origins=tuple(settings.cors_allowed_origins),
            post_paths=tuple(endpoint.path for endpoint in ENDPOINTS),
            timeouts=AskTimeouts(loads_s=settings.load_poll_timeout_secs),
            journal=None if self.scheduling is None else self.scheduling.desk.journal,
            pairs=None if self.pair_watch is None else self.pairs,
            now_s=self._clock.now_s,
        )

    def _metrics_app(self) -> AsgiApp:
        settings = self._settings
        self._collectors.register(
            RouterCollector(
                self.recorder,
                self.registry,
                ExportLabels(
                    backend_type="pd" if settings.pd_disaggregation else "regular",
                    policies={role: policy_name(settings, role) for role in Role},
                    version=__version__,
                ),
                self._scheduling_view(),
            )
        )
        return create_metrics_app(self._collectors)

    def _link_census(self) -> LinkCensus:
        return link_census(self.pairs, self.registry)

    def _scheduling_view(self) -> SchedulingView:
        scheduling = self.scheduling
        if scheduling is None:
            return NO_SCHEDULER
        return SchedulingView(
            waiting=scheduling.desk.journal.waiting, models=scheduling.models.by_class
        )

    def _build_front(self, app: AsgiApp, make_exchange: ExchangeMaker) -> Front:
        settings = self._settings
        return Front(
            app=app,
            make_exchange=make_exchange,
            make_request_id=self.service.request_ids.request_id,
            recorder=self.recorder,
            now_s=self._clock.now_s,
            outbox=self._outbox,
            limits=ReadLimits(
                max_header_bytes=settings.max_header_bytes,
                max_body_bytes=settings.max_payload_size,
            ),
            timeouts=ClientTimeouts(
                header_s=settings.client_header_timeout_secs,
                body_s=settings.client_body_timeout_secs,
                idle_s=settings.client_idle_timeout_secs,
                write_s=settings.stream_write_timeout_secs,
            ),
        )

    def _exchange(self, connection: ClientConnection, request: ParsedRequest) -> Handler | None:
        if request.method != b"POST":
            return None
        endpoint = self._endpoints.get(request.path)
        if endpoint is None:
            return None
        if self._settings.pd_disaggregation and endpoint.pd is PdSupport.PAIR:
            return PdExchange(self.service, connection, request, endpoint)
        return RegularExchange(self.service, connection, request, endpoint)

    def _worker_left(self, worker: Worker, policies: dict[Role, SelectionPolicy]) -> None:
        self.recorder.worker_left(worker.role, worker.model_id, worker.num_selected)
        self.service.forget(worker)
        for policy in policies.values():
            policy.forget(worker.worker_id)

    def _on_checked(self, role: Role, ok: bool) -> None:
        self.recorder.health_checks[role, "success" if ok else "failure"] += 1

    # --- life ---

    async def start(self) -> None:
        """Open the ports and begin to register the workers."""
        settings = self._settings
        await self._listener.open()
        if not settings.disable_prometheus:
            await self._metrics_listener.open()
        for spec in worker_specs(settings):
            self.registrar.submit(spec)
        self.health_loop.start()
        if self.pair_watch is not None:
            self.pair_watch.start()
        if self.scheduling is not None:
            self.scheduling.start()
        self._lag.start()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        log.info(
            "router_started",
            host=settings.host,
            port=settings.port,
            mode="pd" if settings.pd_disaggregation else "regular",
            version=__version__,
            code=str(code_form()),
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            self.service.sweep()
            self._front.sweep()
            self._metrics_front.sweep()

    def hurry(self) -> None:
        """Drop the requests that a stop is waiting for."""
        self._front.close()

    async def stop(self) -> None:
        """Take no new connections, let requests under way finish, stop everything."""
        self._is_draining = True
        log.info("router_draining", num_inflight=self.recorder.num_inflight)
        is_clean = await self._listener.drain(self._settings.shutdown_grace_period_secs)
        self.service.close()
        await self.service.aborter.drain()
        if self.scheduling is not None:
            await self.scheduling.stop()
        await self.registrar.stop()
        await self.health_loop.stop()
        if self.pair_watch is not None:
            await self.pair_watch.stop()
        await self._lag.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if not self._settings.disable_prometheus:
            await self._metrics_listener.drain(0.0)
        log.info("router_stopped", is_clean=is_clean)


def _policies(settings: RouterSettings) -> dict[Role, SelectionPolicy]:
    config = selection_config(settings)
    return {
        role: make_policy(
            selection_name(settings, role), config, random.Random(random.SystemRandom().random())
        )
        for role in Role
    }


def _no_exchange(connection: ClientConnection, request: ParsedRequest) -> Handler | None:
    return None
