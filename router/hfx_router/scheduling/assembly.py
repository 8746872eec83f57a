"""Builds what the scheduler needs in a router process, starts it and takes it down."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from hfx_router.estimates.kv_events import KvEvents
from hfx_router.estimates.prompts import PromptEstimates
from hfx_router.estimates.token_thread import TokenThread
from hfx_router.estimates.tokenizer import configured_tokenizer
from hfx_router.metrics.recorder import Recorder
from hfx_router.outbox import Outbox
from hfx_router.scheduling.dispatcher import Dispatcher
from hfx_router.scheduling.journal import Journal
from hfx_router.scheduling.load_line import LoadLine
from hfx_router.scheduling.load_poll import LoadPoller
from hfx_router.scheduling.place import Desk
from hfx_router.scheduling.profile_store import ProfileStore, load_profile
from hfx_router.scheduling.worker_class import class_key
from hfx_router.settings.core import scheduler_config
from hfx_router.settings.model import RouterSettings
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.clock import Clock
from hfx_sgl.policy.estimates.kv_blocks import BlockIndex
from hfx_sgl.policy.estimates.prompt_tokens import PromptTokens
from hfx_sgl.policy.latency import LatencyModels, ModelCatalog
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role


class Scheduling:
    """The scheduler and everything that feeds it. Made in the event loop.

    Raises:
        ConfigError: the tokenizer that the settings name cannot be loaded.
    """

    def __init__(
        self,
        settings: RouterSettings,
        registry: Registry,
        pairs: PairBook,
        recorder: Recorder,
        clock: Clock,
        outbox: Outbox,
        on_handoff: Callable[[float, float], None],
    ) -> None:
        """`on_handoff` is told what was expected of a hand-off of KV, and what it took."""
        loop = asyncio.get_running_loop()
        profile = None if settings.latency_profile is None else Path(settings.latency_profile)
        self.models = ModelCatalog(load_profile(profile) if profile else {})
        """By class of worker: what was learnt of their speed."""
        self._store = None if profile is None else ProfileStore(profile, self.models.snapshots)
        tokenizer = configured_tokenizer(
            settings.tokenizer_path, settings.model_path, settings.chat_template
        )
        self._thread = (
            None if tokenizer is None else TokenThread(tokenizer, loop.call_soon_threadsafe)
        )
        cached = BlockIndex()
        self._kv_events = KvEvents(registry, cached)
        self._outbox = outbox
        self._clock = clock
        self._connect_timeout_s = settings.upstream_connect_timeout_secs
        journal = Journal(recorder.scheduling, num_kept=settings.debug_decisions, now_s=clock.now_s)
        dispatcher = Dispatcher(
            Scheduler(scheduler_config(settings), LatencyModels(), pairs),
            registry,
            roles=((Role.PREFILL, Role.DECODE) if settings.pd_disaggregation else (Role.REGULAR,)),
            pairs=pairs,
            models_of=self._models_of,
            now_s=clock.now_s,
            timers=loop,
            on_decision=journal.decided,
            decide_s=recorder.scheduling.decide_s,
            on_handoff=on_handoff,
        )
        self._poller = (
            LoadPoller(
                registry,
                self._line,
                dispatcher.report,
                interval_s=settings.load_poll_interval_secs,
                timeout_s=settings.load_poll_timeout_secs,
                clock=clock,
            )
            if settings.load_poll_interval_secs
            else None
        )
        self.desk = Desk(
            dispatcher=dispatcher,
            journal=journal,
            estimates=PromptEstimates(
                PromptTokens(), self._thread, loop, wait_s=settings.tokenizer_wait_ms / 1e3
            ),
            cached=cached,
        )

    def _line(self, worker: Worker) -> LoadLine:
        return LoadLine(
            worker.host,
            worker.port,
            now_s=self._clock.now_s,
            outbox=self._outbox,
            connect_timeout_s=self._connect_timeout_s,
        )

    def _models_of(self, worker: Worker) -> LatencyModels:
        return self.models.models_of(class_key(worker.model_id, worker.role, worker.metadata))

    def start(self) -> None:
        """Begin to ask workers and to count prompts."""
        if self._thread is not None:
            self._thread.start()
        self._kv_events.start()
        if self._poller is not None:
            self._poller.start()
        if self._store is not None:
            self._store.start()

    async def stop(self) -> None:
        """End all of it, and save what was learnt."""
        self.desk.dispatcher.close()
        if self._poller is not None:
            await self._poller.stop()
        await self._kv_events.stop()
        if self._thread is not None:
            self._thread.close()
        if self._store is not None:
            await self._store.stop()
