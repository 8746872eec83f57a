"""Engines on a virtual clock, joined by the hand-off, with books on what they report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Literal

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import (
    EngineEvent,
    Finished,
    FinishReason,
    FirstToken,
    KvAllocated,
    KvSent,
)
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.types import Role

Pace = Literal["event", "step", "input"]
"""By which of `next_event_s` and `next_step_s` a world goes on, or by its own inputs alone."""

LONG_S = 1e5
"""All is over by then."""

FAILED = (FinishReason.ABORTED, FinishReason.HANDOFF_FAILED, FinishReason.EVICTED)
EVENTS_OF_ROLE: dict[Role, tuple[type[EngineEvent], ...]] = {
    Role.REGULAR: (FirstToken, Finished),
    Role.PREFILL: (FirstToken, KvSent, Finished),
    Role.DECODE: (KvAllocated, FirstToken, Finished),
}


class LinearStepTimes:
    """Step times that binary fractions hold exactly; checks what it is asked against a spec."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        self._check_parts(parts)
        return 1 / 64 + sum(p.num_new_tokens / 1024 + p.num_prefix_tokens / 8192 for p in parts)

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        assert self._spec.has_mixed_chunk
        self._check_parts(parts)
        decode_s = self.decode_s(num_running, num_context_tokens)
        return self.prefill_s(parts) + decode_s - 1 / 128

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        assert 1 <= num_running <= self._spec.max_running_requests
        # Shared prefixes are counted for each.
        most_tokens = min(self._spec.kv_capacity_tokens, self._spec.max_context_tokens)
        assert num_running <= num_context_tokens <= num_running * most_tokens
        if not self._spec.has_prefix_cache:
            assert num_context_tokens <= self._spec.kv_capacity_tokens
        return 1 / 128 + num_running / 2048 + num_context_tokens / 65536

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        assert num_steps >= 1
        first_s = self.decode_s(num_running, num_context_tokens)
        more = num_running * num_steps * (num_steps - 1) // 2
        return first_s * num_steps + more / 65536

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        num_steps = 0
        while (
            self.decode_steps_s(num_running, num_context_tokens, num_steps + 1)
            + (num_steps + 1) * overhead_s
            <= duration_s
        ):
            num_steps += 1
        return num_steps

    @property
    def num_extrapolated(self) -> int:
        return 0

    def _check_parts(self, parts: Sequence[PrefillPart]) -> None:
        spec = self._spec
        num_new = sum(part.num_new_tokens for part in parts)
        assert all(p.num_new_tokens >= 1 and p.num_prefix_tokens >= 0 for p in parts)
        assert 1 <= len(parts) <= spec.max_running_requests
        assert num_new <= spec.kv_capacity_tokens
        if spec.chunked_prefill_tokens is not None:
            assert num_new <= spec.chunked_prefill_tokens
        if len(parts) > 1:
            before_last = num_new - parts[-1].num_new_tokens
            assert before_last < spec.max_prefill_tokens


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


@dataclass(slots=True, kw_only=True)
class Books:
    """What one engine has reported."""

    engine: Engine
    spec: EngineSpec
    role: Role
    taken: dict[str, EngineRequest] = field(default_factory=dict)
    """By id; the last one, where an id comes back."""
    num_taken: int = 0
    refused: set[str] = field(default_factory=set)
    events: dict[str, list[EngineEvent]] = field(default_factory=dict)
    """Of those in `taken`."""
    order: list[EngineEvent] = field(default_factory=list)
    ends: list[tuple[EngineRequest, Finished]] = field(default_factory=list)
    seen_at_s: float = 0.0

    def has(self, request_id: str) -> bool:
        """Whether a request is in the engine."""
        past = self.events.get(request_id)
        return past is not None and not (past and isinstance(past[-1], Finished))

    def take(self, request: EngineRequest) -> None:
        """Note that the engine has taken a request."""
        self.taken[request.request_id] = request
        self.events[request.request_id] = []
        self.num_taken += 1

    def note(self, event: EngineEvent, now_s: float) -> None:
        """Check an event against those before."""
        assert self.seen_at_s <= event.at_s <= now_s, "instants never decrease"
        self.seen_at_s = event.at_s
        past = self.events[event.request_id]
        assert self.has(event.request_id), "it has left"
        way = EVENTS_OF_ROLE[self.role]
        is_early_end = isinstance(event, Finished) and event.reason in FAILED
        assert is_early_end or isinstance(event, way[len(past)])
        past.append(event)
        self.order.append(event)
        if isinstance(event, Finished):
            self._check_end(event)

    def _check_end(self, end: Finished) -> None:
        request = self.taken[end.request_id]
        self.ends.append((request, end))
        past = self.events[end.request_id]
        first = next((e.at_s for e in past if isinstance(e, FirstToken)), None)
        assert end.first_token_at_s == first
        assert 0 <= end.num_cached_tokens < request.prompt.num_tokens
        assert end.queue_s >= 0
        is_prefill = self.role is Role.PREFILL
        most = 1 if is_prefill else request.num_output_tokens
        if end.reason in FAILED:
            assert (0 if first is None else 1) <= end.num_output_tokens <= most
        elif end.reason is FinishReason.STOP:
            assert end.num_output_tokens == most < request.max_new_tokens
        elif not is_prefill and end.num_output_tokens < request.max_new_tokens:
            assert self._is_clipped(end)
        else:
            assert end.num_output_tokens == most

    def _is_clipped(self, end: Finished) -> bool:
        """Whether the engine holds no more output than this, but for what it keeps spare."""
        most_tokens = min(self.spec.kv_capacity_tokens, self.spec.max_context_tokens)
        num_tokens = self.taken[end.request_id].prompt.num_tokens + end.num_output_tokens
        num_spare = most_tokens - num_tokens
        return 0 <= num_spare < 3 * self.spec.page_tokens + 2

    def check_load(self, now_s: float) -> None:
        """Check that no limit of the engine is exceeded."""
        load = self.engine.load(now_s)
        spec = self.spec
        capacity = spec.kv_capacity_tokens - spec.kv_capacity_tokens % spec.page_tokens
        assert 0 <= load.num_used_tokens <= capacity
        assert 0 <= load.num_running_reqs <= spec.max_running_requests
        if spec.max_queued_requests is not None and self.role is Role.REGULAR:
            assert load.num_waiting_reqs <= spec.max_queued_requests + spec.max_running_requests
        for request_id in filter(self.has, self.events):
            num_outputs = self.engine.num_output_tokens(request_id)
            assert 0 <= num_outputs <= self.taken[request_id].num_output_tokens

    def check_end(self, now_s: float) -> None:
        """Check that everybody has left and nothing is held."""
        assert not list(filter(self.has, self.events)), "they have not ended"
        assert len(self.ends) == self.num_taken
        engine = self.engine
        assert engine.is_idle
        assert engine.next_event_s() == engine.next_step_s() == math.inf
        assert engine.flush_cache(now_s)
        load = engine.load(now_s)
        assert load.num_used_tokens == load.num_running_reqs == load.num_waiting_reqs == 0


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
            try:
                books.engine.submit(request, now_s)
            except EngineRefusal as refusal:
                assert (refusal.reason is RefusalReason.DUPLICATE) == bool(holders)
                if not holders:
                    books.refused.add(request_id)
                    self._handoff_failed(request_id, now_s)
                    return
            else:
                books.take(request)
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
