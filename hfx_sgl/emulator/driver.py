"""Drives one engine model in real time: inputs when they come, results when the model says so."""

import asyncio
import math
from collections.abc import Iterable
from typing import Protocol

from hfx_sgl.emulator.clock import EngineClock
from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import EngineEvent, Finished, FirstToken, KvAllocated, KvSent
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.types import Role

_TIMER_RESOLUTION_S = 0.001
"""uvloop rounds timers to milliseconds; rounded down they would fire early and spin."""


class Listener(Protocol):
    """Whoever submitted a request. None of these may raise or call the driver back."""

    def on_tokens(self, num_output_tokens: int) -> None:
        """A step has produced a token; so many exist."""
        ...

    def on_kv_allocated(self) -> None:
        """Decode role: there is room for the KV."""
        ...

    def on_kv_sent(self) -> None:
        """Prefill role: the KV has arrived on the other side."""
        ...

    def on_finished(self, finished: Finished) -> None:
        """The request has left the engine."""
        ...


class EngineDriver:
    """Passes real time to one engine.

    The model keeps its own timeline: a step begins where the one before it ended, however late
    the wake-up was, so a busy machine delays the delivery of tokens and slows nothing down. An
    engine with nothing under way has no timer.
    """

    def __init__(self, engine: Engine, clock: EngineClock) -> None:
        self._engine = engine
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._producing: dict[str, Listener] = {}
        """Those that have a first token."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def role(self) -> Role:
        """What the engine does at present."""
        return self._engine.role

    @property
    def is_idle(self) -> bool:
        """Whether the engine has no request."""
        return self._engine.is_idle

    @property
    def is_ready(self) -> bool:
        """Whether the engine has started and is not changing its role."""
        return self._clock.now_s() >= self._engine.ready_at_s

    @property
    def ready_in_s(self) -> float:
        """How long it takes until the engine is ready; at least 0."""
        return max(0.0, self._engine.ready_at_s - self._clock.now_s())

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests in the engine."""
        return tuple(self._listeners)

    @property
    def has_timer(self) -> bool:
        """Whether it is going to wake up by itself."""
        return self._timer is not None

    @property
    def is_held(self) -> bool:
        """Whether the engine's time stands still."""
        return self._clock.is_held

    def submit(self, request: EngineRequest, listener: Listener) -> None:
        """Give the engine a request.

        Raises:
            EngineRefusal: it does not take it.
        """
        now_s = self._catch_up()
        self._engine.submit(request, now_s)
        self._listeners[request.request_id] = listener
        self._settle()

    def abort(self, request_id: str) -> None:
        """End a request; nothing happens when it is not there."""
        self._engine.abort(request_id, self._catch_up())
        self._settle()

    def kv_granted(self, request_id: str) -> None:
        """Prefill role: the decode side has room."""
        self._engine.kv_granted(request_id, self._catch_up())
        self._settle()

    def kv_arrived(self, request_id: str) -> None:
        """Decode role: the KV is here."""
        self._engine.kv_arrived(request_id, self._catch_up())
        self._settle()

    def handoff_failed(self, request_id: str) -> None:
        """The other side of the hand-off is gone."""
        self._engine.handoff_failed(request_id, self._catch_up())
        self._settle()

    def switch_role(self, role: Role) -> None:
        """Begin to change the role.

        Raises:
            EngineRefusal: the engine is not idle, or not ready.
        """
        self._engine.switch_role(role, self._catch_up())
        self._settle()

    def set_extra_step_s(self, extra_step_s: float) -> None:
        """Make each step take longer."""
        self._engine.set_extra_step_s(extra_step_s, self._catch_up())
        self._settle()

    def flush_cache(self) -> bool:
        """Empty the prefix cache; False while there are requests."""
        return self._engine.flush_cache(self._catch_up())

    def load(self) -> EngineLoad:
        """Return what `/v1/loads` says."""
        return self._engine.load(self._catch_up())

    def hold(self) -> None:
        """Stop the engine's time."""
        self._catch_up()
        self._clock.hold()
        self._arm()

    def release(self) -> None:
        """Let the engine's time go on."""
        self._clock.release()
        self._arm()

    def close(self) -> None:
        """Stop the timer. Nothing is delivered afterwards."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._settle()

    def _settle(self) -> None:
        """Deliver what is due, then sleep until the next step ends."""
        self._catch_up()
        self._arm()

    def _catch_up(self) -> float:
        """Let the engine live through the time that has passed, and return its instant."""
        now_s = self._clock.now_s()
        # Step by step, so that each step is one event of each stream however late this comes.
        while (due_s := self._engine.next_step_s()) <= now_s:
            self._deliver(self._engine.advance(due_s))
            for request_id, listener in self._producing.items():
                listener.on_tokens(self._engine.num_output_tokens(request_id))
        self._deliver(self._engine.advance(now_s))
        return now_s

    def _deliver(self, events: Iterable[EngineEvent]) -> None:
        for event in events:
            listener = self._listeners[event.request_id]
            match event:
                case FirstToken():
                    self._producing[event.request_id] = listener
                    listener.on_tokens(self._engine_tokens(event.request_id))
                case KvAllocated():
                    listener.on_kv_allocated()
                case KvSent():
                    listener.on_kv_sent()
                case Finished():
                    del self._listeners[event.request_id]
                    self._producing.pop(event.request_id, None)
                    listener.on_finished(event)

    def _engine_tokens(self, request_id: str) -> int:
        try:
            return self._engine.num_output_tokens(request_id)
        except KeyError:
            # It has produced its only token and left; Finished says so next.
            return 1

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self._engine.next_step_s()
        if self._clock.is_held or due_s == math.inf:
            return
        wait_s = max(0.0, due_s - self._clock.now_s())
        wait_s = math.ceil(wait_s / _TIMER_RESOLUTION_S) * _TIMER_RESOLUTION_S
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)
