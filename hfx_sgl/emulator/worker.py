"""One emulated worker: an engine in real time behind SGLang's HTTP interface."""

import asyncio
import itertools
import os
from collections.abc import Callable

from aiohttp import web

from hfx_sgl.clock import Clock, WallClock, unix_time_s
from hfx_sgl.emulator.api.asks import Limits
from hfx_sgl.emulator.api.info import route_info
from hfx_sgl.emulator.clock import EngineClock
from hfx_sgl.emulator.desk import Desk
from hfx_sgl.emulator.driver import EngineDriver
from hfx_sgl.emulator.faults import Faults
from hfx_sgl.emulator.kv.settings import open_mover
from hfx_sgl.emulator.metrics import WorkerMetrics
from hfx_sgl.emulator.pd.bootstrap import BootstrapServer
from hfx_sgl.emulator.routes import Router
from hfx_sgl.emulator.sequence import Sequence
from hfx_sgl.emulator.settings import WorkerSettings
from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import FinishReason
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.types import Role

_SHUTDOWN_S = 0.2
_ACCEPTING_S = 0.01
_REGULAR_ENDS = (FinishReason.STOP, FinishReason.LENGTH)


class Worker:
    """Serves from `start` to `stop`, inside one event loop with others of its kind.

    Args:
        on_death: called when a fault has ended the worker.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        step_times: StepTimes,
        *,
        clock: Clock | None = None,
        on_death: Callable[["Worker"], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or WallClock()
        engine_clock = EngineClock(self.clock)
        engine = Engine(
            settings.spec, step_times, now_s=engine_clock.now_s(), is_started=settings.is_started
        )
        self.driver = EngineDriver(engine, engine_clock)
        self.metrics = WorkerMetrics(
            settings.served_model_name,
            read_load=self.driver.load,
            read_role=lambda: self.driver.role,
        )
        self.desk = Desk(
            self.driver,
            clock=self.clock,
            times=settings.handoff,
            on_end=self._count,
            observe_gap=self.metrics.observe_gap,
            misfit=self._die_of,
            page_tokens=settings.spec.page_tokens,
        )
        self.faults = Faults(settings.faults)
        self.created = int(unix_time_s())
        # Ids are unique over all workers, and drawing each from the system would cost more.
        prefix = os.urandom(8).hex()
        numbers = itertools.count()
        self.limits = Limits(
            max_context_tokens=settings.spec.max_context_tokens,
            has_priority=settings.spec.has_priority,
            new_rid=lambda: f"{prefix}{next(numbers):016x}",
        )
        self._on_death = on_death
        self._runner: web.ServerRunner | None = None
        self._bootstrap: BootstrapServer | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._death: asyncio.Task[None] | None = None
        self.died_of = "a fault"
        """What ended it, if anything did."""

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: a port is taken.
            TransferError: real bytes cannot be moved here.
            ConfigError: nothing is installed that moves them, or not in this way.
        """
        settings = self.settings
        if settings.real_kv is not None and settings.role is not Role.REGULAR:
            self.desk.mover = await asyncio.to_thread(
                open_mover,
                settings.real_kv,
                host=settings.host,
                page_tokens=settings.spec.page_tokens,
            )
        if settings.role is Role.PREFILL or settings.has_role_switch:
            self._bootstrap = BootstrapServer(
                self.desk.rooms,
                is_prefill=lambda: self.driver.role is Role.PREFILL and self.driver.is_ready,
                describe=lambda: route_info(settings),
            )
            await self._bootstrap.start(settings.host, settings.bootstrap_port)
        server = web.Server(
            Router(self).handle, handler_cancellation=True, access_log=None, keepalive_timeout=3600
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.host, settings.port).start()

    async def stop(self) -> None:
        """End every request and stop listening."""
        if self._stall is not None:
            self._stall.cancel()
        self.driver.release()
        await self.desk.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._bootstrap is not None:
            await self._bootstrap.stop()
        if self.desk.mover is not None:
            await asyncio.to_thread(self.desk.mover.close)
        self.driver.close()

    async def die(self) -> None:
        """End as a crash would: every connection is reset, nothing listens any more."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            # A connection that was just accepted has no transport yet, and would be forgotten.
            await asyncio.sleep(_ACCEPTING_S)
        for transport in self._transports():
            transport.abort()
        await self.stop()
        if self._on_death is not None:
            self._on_death(self)

    def stall(self, duration_s: float | None) -> None:
        """Stop the engine's time, for a while or until `resume`."""
        self.resume()
        self.driver.hold()
        if duration_s is not None:
            self._stall = asyncio.get_running_loop().call_later(duration_s, self.resume)

    def resume(self) -> None:
        """Let the engine's time go on."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self.driver.release()

    def _die_of(self, cause: str) -> None:
        if self._death is None:
            self.died_of = cause
            self._death = asyncio.create_task(self.die())

    def _transports(self) -> list[asyncio.Transport]:
        servers = [] if self._runner is None else [self._runner.server]
        if self._bootstrap is not None:
            servers.append(self._bootstrap.server)
        connections = [c for server in servers if server is not None for c in server.connections]
        return [c.transport for c in connections if c.transport is not None]

    def _count(self, sequence: Sequence) -> None:
        finished = sequence.finished
        ended_at_s = sequence.finished_at_s or sequence.received_at_s
        first_at_s = sequence.first_token_at_s
        self.metrics.observe_end(
            streams=sequence.on_update is not None,
            num_prompt_tokens=sequence.ask.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached_tokens,
            num_output_tokens=sequence.num_tokens,
            queue_s=finished.queue_s if finished else 0.0,
            first_token_s=None if first_at_s is None else first_at_s - sequence.received_at_s,
            request_s=ended_at_s - sequence.received_at_s,
            was_aborted=finished is None or finished.reason not in _REGULAR_ENDS,
        )
