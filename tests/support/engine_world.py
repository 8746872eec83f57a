"""Engines on a virtual clock, joined by the hand-off."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Literal

from support.engine_books import FAILED, Books
from support.linear_step_times import LinearStepTimes

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import EngineEvent, Finished, KvAllocated, KvSent
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.types import Role

Pace = Literal["event", "step", "input"]
"""By which of `next_event_s` and `next_step_s` a world goes on, or by its own inputs alone."""

LONG_S = 1e5
"""All is over by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request, when it comes, and what befalls it."""

    at_s: float
    request: EngineRequest
    abort_at_s: float = math.inf
    peer_delay_s: float = 0.0
    """How long the other side takes for each step of the hand-off."""
    peer_fails: bool = False
    """Whether the other side is gone when it is its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A call at an instant at which nobody has to make it, on each engine."""

    at_s: float
    call: Literal["advance", "kv_granted", "kv_arrived", "abort", "handoff_failed"]
    request_id: str


def refusal_of(engine: Engine, request: EngineRequest, now_s: float) -> RefusalReason | None:
    """Submit a request; return why it is refused, None if it is taken."""
    try:
        engine.submit(request, now_s)
    except EngineRefusal as refusal:
        return refusal.reason
    return None


class World:
    """Plays visits on engines: one of any role, or a prefill and a decode engine together."""

    def __init__(
        self,
        specs: Sequence[EngineSpec],
        visits: Sequence[Visit],
        pace: Pace = "event",
        strays: Sequence[Stray] = (),
    ) -> None:
        self._pace = pace
        # By request id; the last one, where an id comes back.
        self._visits: dict[str, Visit] = {}
        self._inputs: list[tuple[float, int, Callable[[float], None]]] = []
        self._num_inputs = count()
        self.now_s = 0.0
        self.instants: list[float] = []
        """At which the engines were advanced."""
        self.books = {
            spec.role: Books(
                engine=Engine(spec, LinearStepTimes(spec), now_s=0.0, is_started=True),
                spec=spec,
                role=spec.role,
            )
            for spec in specs
        }
        for visit in visits:
            self._at(visit.at_s, partial(self._submit, visit))
            if visit.abort_at_s < math.inf:
                self._at(visit.abort_at_s, partial(self._abort, visit.request.request_id))
        for stray in strays:
            self._at(stray.at_s, partial(self._call, stray))

    def _at(self, at_s: float, call: Callable[[float], None]) -> None:
        heappush(self._inputs, (at_s, next(self._num_inputs), call))

    def _abort(self, request_id: str, now_s: float) -> None:
        for books in self.books.values():
            books.engine.abort(request_id, now_s)

    def _call(self, stray: Stray, now_s: float) -> None:
        for books in self.books.values():
            engine = books.engine
            if stray.call == "abort":
                engine.abort(stray.request_id, now_s)
            elif stray.call == "handoff_failed":
                engine.handoff_failed(stray.request_id, now_s)
            elif stray.call == "kv_arrived":
                engine.kv_arrived(stray.request_id, now_s)
            elif stray.call == "kv_granted" and len(self.books) == 1:
                # A grant before there is room would break the hand-off.
                engine.kv_granted(stray.request_id, now_s)

    def _submit(self, visit: Visit, now_s: float) -> None:
        request = visit.request
        request_id = request.request_id
        holders = [books for books in self.books.values() if books.has(request_id)]
        for books in holders or self.books.values():
            reason = refusal_of(books.engine, request, now_s)
            assert (reason is RefusalReason.DUPLICATE) == bool(holders)
            if reason is None:
                books.take(request)
            elif not holders:
                books.refused.add(request_id)
                self._handoff_failed(request_id, now_s)
                return
        if holders:
            return
        self._visits[request_id] = visit
        if self.books.keys() == {Role.PREFILL}:
            self._reply(visit, now_s, self.books[Role.PREFILL].engine.kv_granted)

    def _handoff_failed(self, request_id: str, now_s: float) -> None:
        for books in self.books.values():
            books.engine.handoff_failed(request_id, now_s)

    def _reply(self, visit: Visit, now_s: float, reply: Callable[[str, float], None]) -> None:
        """Let the other side answer after its delay, or have it gone."""
        request_id = visit.request.request_id

        def answer(at_s: float) -> None:
            if self._visits[request_id] is not visit:
                return
            if visit.peer_fails:
                self._handoff_failed(request_id, at_s)
            else:
                reply(request_id, at_s)

        self._at(now_s + visit.peer_delay_s, answer)

    def _react(self, event: EngineEvent) -> None:
        visit = self._visits.get(event.request_id)
        if visit is None:
            return
        prefill, decode = self.books.get(Role.PREFILL), self.books.get(Role.DECODE)
        if isinstance(event, KvAllocated):
            if prefill is not None:
                self._reply(visit, self.now_s, prefill.engine.kv_granted)
            elif decode is not None:
                self._reply(visit, self.now_s, decode.engine.kv_arrived)
        elif isinstance(event, KvSent) and decode is not None:
            self._reply(visit, self.now_s, decode.engine.kv_arrived)
        elif isinstance(event, Finished) and event.reason in FAILED:
            self._handoff_failed(event.request_id, self.now_s)

    def _due_s(self) -> float:
        engines = [books.engine for books in self.books.values()]
        event_s = min(engine.next_event_s() for engine in engines)
        if self._pace == "step":
            step_s = min(engine.next_step_s() for engine in engines)
            assert step_s <= event_s or math.isclose(step_s, event_s)
            return step_s
        if self._pace == "input" and event_s < math.inf:
            return math.inf if self._inputs else LONG_S
        return event_s

    def run(self, most_calls: int = 5_000) -> None:
        """Play all visits to their end, in so many calls at most.

        Raises:
            AssertionError: an engine breaks its contract.
        """
        while True:
            input_s = self._inputs[0][0] if self._inputs else math.inf
            due_s = min(self._due_s(), input_s)
            if due_s == math.inf:
                break
            assert due_s >= self.now_s
            self.now_s = due_s
            self.instants.append(due_s)
            assert len(self.instants) <= most_calls, "it does not get on"
            self._advance()
            for books in self.books.values():
                books.check_load(self.now_s)
            # Once per instant and input: what an input brings about comes with the next call.
            if input_s == due_s:
                heappop(self._inputs)[2](due_s)
        for books in self.books.values():
            books.check_end(self.now_s)

    def _advance(self) -> None:
        for books in self.books.values():
            for event in books.engine.advance(self.now_s):
                assert self._pace == "input" or event.at_s == self.now_s, "none was due before"
                books.note(event, self.now_s)
                self._react(event)
