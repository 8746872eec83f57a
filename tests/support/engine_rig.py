"""One engine on a virtual clock, with step times that binary fractions hold exactly."""

import math
from collections.abc import Iterable

from support.linear_step_times import LinearStepTimes

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import EngineEvent, Finished, FirstToken, KvAllocated, KvSent
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


def make_spec(role: Role = Role.REGULAR, **settings: object) -> EngineSpec:
    """Return a small engine whose overheads are binary fractions."""
    fields: dict[str, object] = {
        "role": role,
        "kv_capacity_tokens": 100_000,
        "max_context_tokens": 50_000,
        "kv_bytes_per_token": 16,
        "num_reserved_decode_tokens": 4,
        "host_overhead_s": 1 / 256,
        "host_overhead_per_request_s": 1 / 4096,
        "handoff_bytes_per_s": 2.0**14,
        "handoff_latency_s": 1 / 32,
    }
    return EngineSpec(**(fields | settings))  # type: ignore[arg-type]


def make_request(
    request_id: str,
    prompt: int | Prompt,
    num_output_tokens: int = 1,
    *,
    max_new_tokens: int | None = None,
    priority: int = 0,
) -> EngineRequest:
    """Return a request; a prompt given by its length is like no other."""
    if isinstance(prompt, int):
        prompt = Prompt((hash(request_id),), (prompt,))
    return EngineRequest(
        request_id=request_id,
        prompt=prompt,
        num_output_tokens=num_output_tokens,
        max_new_tokens=max_new_tokens or num_output_tokens,
        priority=priority,
    )


class EngineRig:
    """Drives an engine from event to event and keeps what it reports."""

    def __init__(self, spec: EngineSpec, *, is_started: bool = True) -> None:
        self.spec = spec
        self.table = LinearStepTimes(spec)
        self.engine = Engine(spec, self.table, now_s=0.0, is_started=is_started)
        self.events: list[EngineEvent] = []
        self.now_s = 0.0

    def submit(
        self,
        request_id: str,
        prompt: int | Prompt,
        num_output_tokens: int = 1,
        *,
        at_s: float | None = None,
        max_new_tokens: int | None = None,
        priority: int = 0,
    ) -> None:
        """Run up to an instant, then submit a request."""
        self.run(self.now_s if at_s is None else at_s, is_input=True)
        request = make_request(
            request_id,
            prompt,
            num_output_tokens,
            max_new_tokens=max_new_tokens,
            priority=priority,
        )
        self.engine.submit(request, self.now_s)

    def run(self, until_s: float = math.inf, *, is_input: bool = False) -> None:
        """Run up to an instant, or until nothing is pending.

        With `is_input` the engine is not asked at that instant: an input is to follow.
        """
        while (at_s := self.engine.next_event_s()) < until_s or at_s == until_s < math.inf:
            if at_s == until_s and is_input:
                break
            self._advance(at_s)
        if until_s < math.inf:
            self.now_s = until_s
            if not is_input:
                self._advance(until_s)

    def first_s(self, request_id: str) -> float:
        """When the first token came."""
        return self._one(FirstToken, request_id).at_s

    def finished(self, request_id: str) -> Finished:
        """How a request ended."""
        event = self._one(Finished, request_id)
        assert isinstance(event, Finished)
        return event

    def allocated_s(self, request_id: str) -> float:
        """When room was reserved."""
        return self._one(KvAllocated, request_id).at_s

    def sent_s(self, request_id: str) -> float:
        """When the KV was on the other side."""
        return self._one(KvSent, request_id).at_s

    def has(self, kind: type[EngineEvent], request_id: str) -> bool:
        """Whether there was such an event."""
        return any(isinstance(e, kind) and e.request_id == request_id for e in self.events)

    def prefill_s(self, *parts: tuple[int, int]) -> float:
        """How long a prefill step takes, by pairs of new and cached tokens."""
        return self.table.prefill_s([PrefillPart(*part) for part in parts]) + self.overhead_s(
            len(parts)
        )

    def mixed_s(self, parts: Iterable[tuple[int, int]], num_running: int, num_kv: int) -> float:
        """How long a prefill step takes that carries running requests."""
        made = [PrefillPart(*part) for part in parts]
        overhead_s = self.overhead_s(len(made) + num_running)
        return self.table.mixed_s(made, num_running, num_kv) + overhead_s

    def decode_s(self, num_running: int, num_kv: int, num_steps: int = 1) -> float:
        """How long decode steps take, from so many tokens of KV on."""
        steps_s = self.table.decode_steps_s(num_running, num_kv, num_steps)
        return steps_s + num_steps * self.overhead_s(num_running)

    def overhead_s(self, num_requests: int) -> float:
        """Host time of a step."""
        spec = self.spec
        return spec.host_overhead_s + num_requests * spec.host_overhead_per_request_s

    @property
    def num_used_tokens(self) -> int:
        """Tokens of KV that are neither free nor evictable."""
        return self.engine.load(self.now_s).num_used_tokens

    def _advance(self, at_s: float) -> None:
        self.now_s = at_s
        self.events += self.engine.advance(at_s)

    def _one(self, kind: type[EngineEvent], request_id: str) -> EngineEvent:
        found = [e for e in self.events if isinstance(e, kind) and e.request_id == request_id]
        assert len(found) == 1, (kind, request_id, self.events)
        return found[0]
