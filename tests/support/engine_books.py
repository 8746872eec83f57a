"""Books on one engine: what it took, what it reported, and whether that is in order."""

import math
from dataclasses import dataclass, field

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import (
    EngineEvent,
    Finished,
    FinishReason,
    FirstToken,
    KvAllocated,
    KvSent,
)
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.types import Role

FAILED = (FinishReason.ABORTED, FinishReason.HANDOFF_FAILED, FinishReason.EVICTED)
EVENTS_OF_ROLE: dict[Role, tuple[type[EngineEvent], ...]] = {
    Role.REGULAR: (FirstToken, Finished),
    Role.PREFILL: (FirstToken, KvSent, Finished),
    Role.DECODE: (KvAllocated, FirstToken, Finished),
}


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

    @property
    def num_failed(self) -> int:
        """How many have ended before their time."""
        return sum(end.reason in FAILED for _, end in self.ends)

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
        assert load.num_running_reqs == load.num_waiting_reqs == 0
        assert load.num_used_tokens == load.num_total_tokens == 0
        assert load.num_waiting_uncached_tokens == 0
