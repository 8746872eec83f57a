"""A scheduler that holds requests back fits behind the seam of the simulated router."""

from collections import deque

from support.simulated import linear_profile, planned

from hfx_sgl.results.record import Status
from hfx_sgl.sim.request import SimRequest
from hfx_sgl.sim.router import Sender
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, SimWorker, make_workers
from hfx_sgl.types import Role

TICK_S = 0.25


class OneAtATime:
    """Keeps one queue and gives a worker its next request at the end of a leg, or at a tick."""

    def __init__(self, pools: Pools) -> None:
        self.workers = pools[Role.REGULAR]
        self.queue: deque[SimRequest] = deque()
        self.num_most_inflight = 0
        self.first_tokens: list[tuple[str, float]] = []
        self.ticks_s: list[float] = []

    def on_start(self, sender: Sender, now_s: float) -> None:
        sender.call_at(now_s + TICK_S, self._on_tick)

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        self.queue.append(request)

    def on_first_token(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        self.first_tokens.append((request.planned.request_id, now_s))

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        self._fill(sender, now_s)

    def _on_tick(self, sender: Sender, now_s: float) -> None:
        self.ticks_s.append(now_s)
        self._fill(sender, now_s)
        sender.call_at(now_s + TICK_S, self._on_tick)

    def _fill(self, sender: Sender, now_s: float) -> None:
        for worker in self.workers:
            if self.queue and not worker.num_inflight:
                sender.send(self.queue.popleft(), None, worker, now_s)
            self.num_most_inflight = max(self.num_most_inflight, worker.num_inflight)


def test_requests_wait_in_the_router_until_it_sends_them() -> None:
    spec = SimSpec(num_workers=2, network_s=0.002)
    pools = make_workers(spec, linear_profile())
    router = OneAtATime(pools)
    sink = MemorySink()
    requests = [planned(i, 0.1, output_tokens=30) for i in range(7)]
    Simulation(spec, pools, router, requests, sink).run()
    assert {record.status for record in sink.records} == {Status.OK}
    assert router.num_most_inflight == 1
    assert router.ticks_s[:2] == [TICK_S, 2 * TICK_S]
    assert min(record.ttft_s or 0.0 for record in sink.records) > TICK_S - 0.1
    ends = [record.e2e_s or 0.0 for record in sink.records]
    assert ends == sorted(ends)
    assert ends[6] > 3 * (ends[0] - (TICK_S - 0.1))
    seen = dict(router.first_tokens)
    for record in sink.records:
        assert seen[record.request_id] == record.sent_at_s + (record.ttft_s or 0.0)


def test_requests_that_are_never_sent_time_out() -> None:
    spec = SimSpec(num_workers=1, max_drain_s=3.0)
    pools = make_workers(spec, linear_profile())
    router = OneAtATime(pools)
    sink = MemorySink()
    requests = [planned(i, 0.1, output_tokens=1000) for i in range(2)]
    simulation = Simulation(spec, pools, router, requests, sink)
    simulation.run()
    assert [record.status for record in sink.records] == [Status.TIMED_OUT] * 2
    assert [record.worker for record in sink.records] == ["regular-0", None]
    assert simulation.now_s == 0.1 + 3.0
