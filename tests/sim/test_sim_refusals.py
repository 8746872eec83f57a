"""A leg that fails ends the pair, and every in-flight count comes back to zero."""

import math
from collections.abc import Sequence
from typing import cast

from support.simulated import linear_profile, planned

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.events import EngineEvent, Finished, FinishReason, KvAllocated
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.sim.router import PolicyRouter, make_policies
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, SimWorker, make_workers
from hfx_sgl.types import Role

PAIR = SimSpec(num_prefill=1, num_decode=1, policy="random", sample_interval_s=None)


class ScriptedEngine:
    """Gives the events that it was made with, in answer to `submit` or `kv_granted`."""

    def __init__(
        self, on_submit: Sequence[type] = (), on_grant: FinishReason | None = None
    ) -> None:
        self.on_submit = on_submit
        self.on_grant = on_grant
        self.events: list[EngineEvent] = []
        self.aborted: list[str] = []

    def submit(self, request: EngineRequest, now_s: float) -> None:
        for kind in self.on_submit:
            self.events.append(kind(at_s=now_s, request_id=request.request_id))

    def kv_granted(self, request_id: str, now_s: float) -> None:
        if self.on_grant is not None:
            self.events.append(finished(request_id, now_s, self.on_grant))

    def abort(self, request_id: str, now_s: float) -> None:
        self.aborted.append(request_id)
        self.events.append(finished(request_id, now_s, FinishReason.ABORTED))

    def next_event_s(self) -> float:
        return self.events[0].at_s if self.events else math.inf

    def advance(self, now_s: float) -> Sequence[EngineEvent]:
        events, self.events = self.events, []
        return events


def finished(request_id: str, at_s: float, reason: FinishReason) -> Finished:
    return Finished(
        at_s=at_s,
        request_id=request_id,
        reason=reason,
        num_output_tokens=0,
        num_cached_tokens=0,
        num_retractions=0,
        queue_s=0.0,
        first_token_at_s=None,
    )


def scripted(role: Role, engine: ScriptedEngine) -> SimWorker:
    return SimWorker(f"{role}-0", role, cast(Engine, engine))


def run(pools: Pools, *, prompt_tokens: int = 100) -> RequestRecord:
    sink = MemorySink()
    router = PolicyRouter(pools, make_policies(PAIR))
    requests = [planned(0, 1.0, prompt_tokens=prompt_tokens)]
    simulation = Simulation(PAIR, pools, router, requests, sink)
    simulation.run()
    (record,) = sink.records
    assert [worker.num_inflight for pool in pools.values() for worker in pool] == [0, 0]
    return record


def test_a_prefill_that_gives_up_aborts_the_decode() -> None:
    decode = ScriptedEngine(on_submit=(KvAllocated,))
    pools = {
        Role.PREFILL: (scripted(Role.PREFILL, ScriptedEngine(on_grant=FinishReason.EVICTED)),),
        Role.DECODE: (scripted(Role.DECODE, decode),),
    }
    record = run(pools)
    assert (record.status, record.error) == (Status.REJECTED, "evicted")
    assert decode.aborted == ["r0"]


def test_a_decode_that_refuses_aborts_the_prefill() -> None:
    """Only the decode engine keeps room for growth, so this prompt fits one of the two."""
    profile = linear_profile()
    decode_pool = make_workers(PAIR, profile)[Role.DECODE]
    prefill = ScriptedEngine()
    pools = {
        Role.PREFILL: (scripted(Role.PREFILL, prefill),),
        Role.DECODE: decode_pool,
    }
    record = run(pools, prompt_tokens=32_768)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.startswith("too_long: ")
    assert prefill.aborted == ["r0"]


def test_a_request_given_up_by_a_decode_fails() -> None:
    decode = ScriptedEngine(on_submit=(KvAllocated,))
    prefill = ScriptedEngine()
    pools = {
        Role.PREFILL: (scripted(Role.PREFILL, prefill),),
        Role.DECODE: (scripted(Role.DECODE, decode),),
    }
    decode.submit = lambda request, now_s: decode.events.append(  # type: ignore[method-assign]
        finished(request.request_id, now_s, FinishReason.HANDOFF_FAILED)
    )
    record = run(pools)
    assert (record.status, record.error) == (Status.FAILED, "handoff_failed")
    assert prefill.aborted == ["r0"]
