"""The simulation itself: arrivals, the ways of requests through engines, and what is seen of them.

The network between client and worker takes `network_s` each way. A decision falls at the instant
of arrival; the router and the client see an answer `network_s` after the worker gives it.
"""

import math
from collections.abc import Callable, Iterable, Iterator

from hfx_sgl.engine.events import EngineEvent, Finished, FirstToken, KvAllocated
from hfx_sgl.engine.refusal import EngineRefusal
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.sim.agenda import Agenda
from hfx_sgl.sim.outcome import (
    finished_record,
    is_complete,
    refused_record,
    rejected_record,
    unfinished_record,
)
from hfx_sgl.sim.request import SimRequest
from hfx_sgl.sim.router import Sender, SimRouter
from hfx_sgl.sim.sink import Sink
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, SimWorker
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

Progress = Callable[[int, float], None]
"""Called now and then with how many requests have ended and the simulated time."""

_PROGRESS_EVERY = 256


class Simulation:
    """One run. It sends what the router tells it to, and counts legs in flight as the router does.

    Args:
        requests: in order of arrival; read as time goes on, and not held.
    """

    def __init__(
        self,
        spec: SimSpec,
        pools: Pools,
        router: SimRouter,
        requests: Iterable[PlannedRequest],
        sink: Sink,
        progress: Progress = lambda num_ended, now_s: None,
    ) -> None:
        self._spec = spec
        self._network_s = spec.network_s
        self._workers = tuple(worker for pool in pools.values() for worker in pool)
        self._router = router
        self._arrivals: Iterator[PlannedRequest] = iter(requests)
        self._sink = sink
        self._progress = progress
        self._agenda = Agenda()
        self._open: dict[str, SimRequest] = {}
        """Whoever has no record yet, by its id in engines."""
        self._num_legs = 0
        self.num_arrived = 0
        self.num_ended = 0
        self.last_arrival_s = 0.0

    @property
    def now_s(self) -> float:
        """The simulated instant."""
        return self._agenda.now_s

    def run(self) -> None:
        """Run until every request has ended, or the time for draining is over."""
        agenda = self._agenda
        self._expect(next(self._arrivals, None))
        if self._spec.sample_interval_s is not None:
            agenda.enter(0.0, self._sample, self._spec.sample_interval_s)
        self._router.on_start(self, 0.0)
        agenda.run()
        if self._open:
            self._give_up_open()

    # --- arrivals ---

    def _expect(self, planned: PlannedRequest | None) -> None:
        """Enter the next arrival; None: nobody arrives any more."""
        if planned is None:
            self._agenda.ends_at_s = self.last_arrival_s + self._spec.max_drain_s
            self._stop_if_done()
        else:
            self._agenda.enter(planned.at_s, self._arrive, planned)

    def _arrive(self, now_s: float, planned: PlannedRequest) -> None:
        """Let in all who arrive at one instant, before anybody decides about them."""
        self.last_arrival_s = now_s
        upcoming: PlannedRequest | None = planned
        while upcoming is not None and upcoming.at_s <= now_s:
            request = SimRequest(self.num_arrived, upcoming)
            self.num_arrived += 1
            self._open[request.engine_id] = request
            self._router.on_arrival(request, self, now_s)
            upcoming = next(self._arrivals, None)
        self._expect(upcoming)

    # --- to the workers ---

    def send(
        self, request: SimRequest, prefill: SimWorker | None, worker: SimWorker, now_s: float
    ) -> None:
        """See Sender."""
        request.prefill = prefill
        request.worker = worker
        request.legs = [worker] if prefill is None else [prefill, worker]
        self._num_legs += len(request.legs)
        for leg in request.legs:
            leg.num_inflight += 1
        self._agenda.enter(now_s + self._network_s, self._submit, request)

    def withdraw(self, request: SimRequest, now_s: float) -> SimRequest | None:
        """See Sender. Workers hear of it when it has gone through the network."""
        if self._open.get(request.engine_id) is not request:
            return None
        del self._open[request.engine_id]
        request.is_withdrawn = True
        for worker in request.legs:
            worker.num_inflight -= 1
            self._num_legs -= 1
            self._agenda.enter(now_s + self._network_s, self._abort, (request, worker))
        again = SimRequest(request.index, request.planned, request.num_recalls + 1)
        self._open[again.engine_id] = again
        return again

    def reject(self, request: SimRequest, now_s: float) -> None:
        """See Sender."""
        self._end(request, rejected_record(request, self._network_s))
        self._stop_if_done()

    def call_at(self, at_s: float, act: Callable[[Sender, float], None]) -> None:
        """See Sender."""
        self._agenda.enter(at_s, self._call, act)

    def _call(self, now_s: float, act: Callable[[Sender, float], None]) -> None:
        act(self, now_s)

    def _submit(self, now_s: float, request: SimRequest) -> None:
        if request.is_withdrawn:
            return
        for_engine = request.for_engine()
        prefill, worker = request.prefill, request.worker
        assert worker is not None
        taken: SimWorker | None = None
        try:
            if prefill is not None:
                prefill.engine.submit(for_engine, now_s)
                taken = prefill
            worker.engine.submit(for_engine, now_s)
        except EngineRefusal as refusal:
            self._refused(request, refusal, taken, now_s)
        else:
            self._reschedule(worker)
        if taken is not None:
            self._reschedule(taken)

    def _refused(
        self, request: SimRequest, refusal: EngineRefusal, taken: SimWorker | None, now_s: float
    ) -> None:
        """End a request that a worker refused, and both its legs, as the router would."""
        if taken is not None:
            taken.engine.abort(request.engine_id, now_s)
        self._end(request, refused_record(request, refusal, self._network_s))
        for worker in (request.prefill, request.worker):
            if worker is not None:
                self._agenda.enter(now_s + self._network_s, self._leg_over, (request, worker))

    def _grant(self, now_s: float, request: SimRequest) -> None:
        prefill = request.prefill
        assert prefill is not None
        prefill.engine.kv_granted(request.engine_id, now_s)
        self._reschedule(prefill)

    def _abort(self, now_s: float, leg: tuple[SimRequest, SimWorker]) -> None:
        request, worker = leg
        worker.engine.abort(request.engine_id, now_s)
        self._reschedule(worker)

    # --- from the workers ---

    def _reschedule(self, worker: SimWorker) -> None:
        """Enter when the engine is to be looked at next, if that has changed."""
        at_s = worker.engine.next_event_s()
        if at_s != worker.wake_at_s:
            worker.wake_at_s = at_s
            if at_s != math.inf:
                self._agenda.enter(at_s, self._wake, worker)

    def _wake(self, now_s: float, worker: SimWorker) -> None:
        if worker.wake_at_s != now_s:
            return  # something came in meanwhile, and there is another entry
        worker.wake_at_s = math.inf
        for event in worker.engine.advance(now_s):
            self._on_event(worker, event, now_s)
        self._reschedule(worker)

    def _on_event(self, worker: SimWorker, event: EngineEvent, now_s: float) -> None:
        request = self._open.get(event.request_id)
        if request is None:
            return  # the leg of a request that was refused elsewhere, or taken back
        kind = type(event)
        if kind is KvAllocated:
            self._agenda.enter(now_s + self._spec.handshake_s, self._grant, request)
        elif isinstance(event, Finished):
            self._on_finished(worker, request, event, now_s)
        elif worker is request.worker:  # a FirstToken: no answering worker sends KV
            request.first_token_at_s = event.at_s
            self._agenda.enter(event.at_s + self._network_s, self._first_token, request)
        elif kind is not FirstToken:  # KvSent
            assert request.worker is not None
            request.worker.engine.kv_arrived(event.request_id, now_s)
            self._reschedule(request.worker)

    def _on_finished(
        self, worker: SimWorker, request: SimRequest, event: Finished, now_s: float
    ) -> None:
        request.num_retractions += event.num_retractions
        if worker.role is not Role.DECODE:
            request.num_cached_tokens = event.num_cached_tokens
        self._agenda.enter(event.at_s + self._network_s, self._leg_over, (request, worker))
        if worker is not request.worker:
            request.is_prefill_over = True
            if is_complete(event):
                return
        request.is_answered = is_complete(event)
        self._end(request, finished_record(request, event, self._network_s))
        if not request.is_answered:
            self._abort_other(request, worker, now_s)

    def _abort_other(self, request: SimRequest, worker: SimWorker, now_s: float) -> None:
        """End the other leg of a pair whose leg at `worker` has failed, as the router does."""
        other = request.worker
        if worker is request.worker:
            other = None if request.is_prefill_over else request.prefill
        if other is not None:
            other.engine.abort(request.engine_id, now_s)
            self._reschedule(other)
            self._agenda.enter(now_s + self._network_s, self._leg_over, (request, other))

    # --- what the router sees ---

    def _first_token(self, now_s: float, request: SimRequest) -> None:
        if request.is_withdrawn:
            return
        self._router.on_first_token(request, self, now_s)

    def _leg_over(self, now_s: float, leg: tuple[SimRequest, SimWorker]) -> None:
        request, worker = leg
        if request.is_withdrawn:
            return
        request.legs.remove(worker)
        worker.num_inflight -= 1
        self._num_legs -= 1
        self._router.on_leg_over(request, worker, self, now_s)
        self._stop_if_done()

    # --- ends ---

    def _end(self, request: SimRequest, record: RequestRecord) -> None:
        del self._open[request.engine_id]
        self._sink.add_record(request.index, record)
        self.num_ended += 1
        if self.num_ended % _PROGRESS_EVERY == 0:
            self._progress(self.num_ended, self._agenda.now_s)

    def _stop_if_done(self) -> None:
        """Stop when nobody arrives any more and every answer has come."""
        if not self._open and not self._num_legs and self._agenda.ends_at_s != math.inf:
            self._agenda.is_done = True

    def _give_up_open(self) -> None:
        for worker in self._workers:
            worker.engine.advance(self.now_s)  # so that it counts the tokens up to here
        for request in tuple(self._open.values()):
            self._end(
                request, unfinished_record(request, self._num_produced(request), self._network_s)
            )

    def _num_produced(self, request: SimRequest) -> int:
        if request.worker is None or request.first_token_at_s is None:
            return 0
        return request.worker.engine.num_output_tokens(request.engine_id)

    def _sample(self, now_s: float, interval_s: float) -> None:
        for worker in self._workers:
            self._sink.add_worker_sample(worker.sample(now_s))
        self._agenda.enter(now_s + interval_s, self._sample, interval_s)
