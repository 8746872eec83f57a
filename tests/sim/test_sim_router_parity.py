"""The simulator's router and the real one choose alike when they see the same arrivals and ends.

A simulation is run with its router's decisions and every end of a leg written down. The same
sequence then goes through the exchanges and the registry of a real Router, whose workers are
stand-ins that answer when they are told to.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import aiohttp
import pytest
from hfx_router.app import Router
from hfx_router.exchange.base import Exchange
from hfx_router.exchange.endpoints import ENDPOINTS
from hfx_router.exchange.pd import PdExchange
from hfx_router.exchange.regular import RegularExchange
from hfx_router.http1.request_reader import ReadLimits, RequestReader
from hfx_router.http1.response_head import parse_response_head
from hfx_router.settings.load import load_settings
from hfx_router.upstream.connection import ResponseSink
from hfx_router.upstream.pool import ConnectionPool
from hfx_router.workers.worker import WorkerSpec
from support.simulated import linear_profile, poisson

from hfx_sgl.clock import FakeClock
from hfx_sgl.code_form import CodeForm, code_form
from hfx_sgl.loadtest.request_bytes import request_bytes
from hfx_sgl.loadtest.settings import Endpoint as LoadEndpoint
from hfx_sgl.loadtest.settings import LoadSettings, Target
from hfx_sgl.policy.selection.config import SelectionConfig
from hfx_sgl.sim.request import PolicyRequest, SimRequest
from hfx_sgl.sim.router import PolicyRouter, Sender, make_policies
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, SimWorker, make_workers
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

ANSWER_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2"
CHAT = next(endpoint for endpoint in ENDPOINTS if endpoint.path == LoadEndpoint.CHAT)
SETTINGS = LoadSettings(
    target=Target(base_url="http://127.0.0.1:1", endpoint=LoadEndpoint.CHAT, model="model")
)

Arrival = tuple[float, PlannedRequest]
LegEnd = tuple[float, str, str]
"""When, which request, which worker."""
Choice = tuple[str | None, str]


class RecordingRouter(PolicyRouter):
    """Writes down what it is told."""

    def __init__(self, pools: Pools, spec: SimSpec) -> None:
        super().__init__(pools, make_policies(spec))
        self.history: list[Arrival | LegEnd] = []

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        self.history.append((now_s, request.planned))
        super().on_arrival(request, sender, now_s)

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        self.history.append((now_s, request.planned.request_id, worker.worker_id))


def simulated(spec: SimSpec) -> tuple[list[Arrival | LegEnd], list[Choice]]:
    """Return what happened, and where each request went in order of arrival."""
    pools = make_workers(spec, linear_profile())
    router = RecordingRouter(pools, spec)
    sink = MemorySink()
    Simulation(spec, pools, router, poisson(400, 40.0), sink).run()
    return router.history, [(r.prefill_worker, r.worker or "") for r in sink.records]


class StandIn:
    """Pool and connection to one worker at once; keeps who waits for an answer."""

    host_line = b"host: stand-in\r\n"

    def __init__(self) -> None:
        self.waiting: list[ResponseSink] = []

    def take_idle(self) -> "StandIn":
        return self

    def send(self, request: bytes, sink: ResponseSink) -> None:
        self.waiting.append(sink)


class SilentClient:
    """A client whose answers nobody reads."""

    def write(self, data: bytes) -> None:
        pass

    def write_through(self) -> Callable[[bytes], None]:
        return self.write

    def finished(self, *, keep_alive: bool) -> None:
        pass

    def break_off(self) -> None:
        raise AssertionError("an answer was cut off")


class RealRouter:
    """A Router that never listens, with the clock and the workers in the test's hands."""

    def __init__(self, spec: SimSpec) -> None:
        flags = ["--policy", spec.policy, "--balance-abs-threshold", "2"]
        if spec.is_pd:
            flags += ["--pd-disaggregation", "--prefill", "http://10.0.0.1:1", "--decode",
                      "http://10.0.0.2:1"]  # fmt: skip
        self.clock = FakeClock()
        self.router = Router(load_settings(flags, {}), cast(aiohttp.ClientSession, None))
        self.service = self.router.service
        self.service.now_s = self.clock.now_s
        self.is_pd = spec.is_pd
        for role in spec.num_of:
            if spec.policy in DRAWING:
                self.service.policies[role] = make_policies(spec)[role]
        for index, worker_id in enumerate(_worker_ids(spec)):
            self._add(worker_id, index)
        self.exchanges: dict[str, Exchange] = {}

    def _add(self, worker_id: str, index: int) -> None:
        registry = self.router.registry
        worker = registry.new_worker(
            worker_id,
            WorkerSpec(
                url=f"http://10.0.1.{index + 1}:8000",
                role=Role(worker_id.partition("-")[0]),
                bootstrap_port=8998,
            ),
        )
        worker.is_probed = True
        registry.add(worker)
        self.service._pool_of[worker_id] = cast(ConnectionPool, StandIn())

    def arrive(self, planned: PlannedRequest) -> Choice:
        """Take in a request as the load test sends it; return where it went."""
        reader = RequestReader(ReadLimits())
        reader.feed(request_bytes(planned, SETTINGS))
        make = PdExchange if self.is_pd else RegularExchange
        exchange = make(self.service, cast(Any, SilentClient()), reader.ready[0], CHAT)
        exchange.start()
        seen = PolicyRequest(planned)
        assert (exchange.prompt, exchange.routing_key) == (seen.prompt, seen.routing_key)
        self.exchanges[planned.request_id] = exchange
        if isinstance(exchange, PdExchange):
            assert exchange._prefill is not None
            assert exchange._decode is not None
            return exchange._prefill.worker.worker_id, exchange._decode.worker.worker_id
        assert isinstance(exchange, RegularExchange)
        assert exchange._leg is not None
        return None, exchange._leg.worker.worker_id

    def leg_over(self, request_id: str, worker_id: str) -> None:
        """Have a worker answer a request to the end."""
        exchange = self.exchanges[request_id]
        stand_in = cast(StandIn, self.service._pool_of[worker_id])
        for sink in stand_in.waiting:
            if cast(Any, sink)._owner is exchange:
                stand_in.waiting.remove(sink)
                sink.on_whole(parse_response_head(ANSWER_HEAD), b"{}")
                return
        raise AssertionError(f"{worker_id} was not sent {request_id}")


DRAWING = ("random", "power_of_two", "manual")
"""Policies that draw: the router draws from the system, so it gets the simulation's."""


def _worker_ids(spec: SimSpec) -> Iterator[str]:
    for role, num_workers in spec.num_of.items():
        yield from (f"{role}-{index}" for index in range(num_workers))


@pytest.mark.skipif(
    code_form() is CodeForm.COMPILED, reason="compiled code takes real connection pools only"
)
@pytest.mark.parametrize("policy", ["round_robin", "least_load", "cache_aware", *DRAWING])
@pytest.mark.parametrize("shape", [{"num_workers": 4}, {"num_prefill": 3, "num_decode": 2}])
async def test_both_routers_choose_alike(shape: dict[str, Any], policy: str) -> None:
    selection = SelectionConfig(balance_abs_threshold=2)  # so that cache_aware balances, too
    spec = SimSpec(policy=policy, seed=7, sample_interval_s=None, selection=selection, **shape)
    history, expected = simulated(spec)
    real = RealRouter(spec)
    choices = []
    for happening in history:
        real.clock.advance(happening[0] - real.clock.now_s())
        if isinstance(happening[1], PlannedRequest):
            choices.append(real.arrive(happening[1]))
        else:
            real.leg_over(happening[1], happening[2])
    assert choices == expected
    assert len(set(choices)) > 1
