"""The scheduler decides alike in the simulator and in the router when it is told alike.

A simulation is run with everything that its scheduler hears and answers written down. The same
events at the same instants then go through the router's dispatcher, its registry and a scheduler
of its own. The end of a turn of the event loop, where the router decides, comes where the simulator
had decided; when an alarm rings is the dispatcher's own doing.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import pytest
from hfx_router.scheduling.dispatcher import Assignment, Dispatcher
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec
from support.simulated import linear_profile, planned, poisson

from hfx_sgl.errors import RequestError
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.snapshot import LatencySnapshot
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig
from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Decision, Reason
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    Recall,
    Rejection,
    RequestFacts,
    WorkerFacts,
    WorkerReport,
)
from hfx_sgl.policy.scheduler.handoff import SeenHandoff
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.slo_router import SloRouter
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import make_workers
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

PAIRS = SimSpec(num_prefill=2, num_decode=2, sample_interval_s=None)
UNIFIED = SimSpec(num_workers=4, sample_interval_s=None)
NUM_REQUESTS = 600
SAME_INSTANT_S = 1e-9
"""Alarms are set by how long to wait, which rounds."""


class Arrived(NamedTuple):
    at_s: float
    facts: RequestFacts


class PrefillOver(NamedTuple):
    at_s: float
    request_id: str


class FirstToken(NamedTuple):
    at_s: float
    request_id: str


class Over(NamedTuple):
    at_s: float
    request_id: str
    num_output_tokens: int | None
    decode_s: float | None


class Reported(NamedTuple):
    at_s: float
    worker_id: str
    report: WorkerReport


class Decided(NamedTuple):
    at_s: float
    actions: list[Action]


Event = Arrived | PrefillOver | FirstToken | Over | Reported | Decided


class ScribeScheduler:
    """A scheduler that writes down what it is told, and what it answers."""

    def __init__(self, config: SchedulerConfig, models: LatencyModels) -> None:
        self._scheduler = Scheduler(config, models)
        self.now_s: Callable[[], float] = lambda: 0.0
        self.workers: list[WorkerFacts] = []
        self.history: list[Event] = []

    def add_worker(self, facts: WorkerFacts) -> None:
        self.workers.append(facts)
        self._scheduler.add_worker(facts)

    def remove_worker(self, worker_id: str) -> None:
        self._scheduler.remove_worker(worker_id)

    def set_usable(self, worker_id: str, is_usable: bool) -> None:
        self._scheduler.set_usable(worker_id, is_usable)

    def next_decision_s(self, now_s: float) -> float:
        return self._scheduler.next_decision_s(now_s)

    def arrive(self, facts: RequestFacts) -> None:
        self.history.append(Arrived(self.now_s(), facts))
        self._scheduler.arrive(facts)

    def prefill_over(self, request_id: str, now_s: float) -> None:
        self.history.append(PrefillOver(now_s, request_id))
        self._scheduler.prefill_over(request_id, now_s)

    def first_token(self, request_id: str, now_s: float) -> None:
        self.history.append(FirstToken(now_s, request_id))
        self._scheduler.first_token(request_id, now_s)

    def over(
        self,
        request_id: str,
        now_s: float,
        num_output_tokens: int | None,
        decode_s: float | None = None,
    ) -> None:
        self.history.append(Over(now_s, request_id, num_output_tokens, decode_s))
        self._scheduler.over(request_id, now_s, num_output_tokens, decode_s)

    def report(self, worker_id: str, report: WorkerReport) -> SeenHandoff | None:
        self.history.append(Reported(self.now_s(), worker_id, report))
        return self._scheduler.report(worker_id, report)

    def decide(self, now_s: float) -> list[Action]:
        actions = list(self._scheduler.decide(now_s))
        self.history.append(Decided(now_s, actions))
        return actions


def simulated(
    spec: SimSpec,
    config: SchedulerConfig,
    requests: Iterator[PlannedRequest],
    monkeypatch: pytest.MonkeyPatch,
    saved: LatencySnapshot | None = None,
) -> tuple[ScribeScheduler, LatencySnapshot]:
    """Run a simulation; return its scheduler, and what that has learnt."""
    made: list[ScribeScheduler] = []

    def make(config: SchedulerConfig, models: LatencyModels) -> ScribeScheduler:
        made.append(ScribeScheduler(config, models))
        return made[0]

    pools = make_workers(spec, linear_profile())
    with monkeypatch.context() as patch:
        patch.setattr("hfx_sgl.sim.slo_router.Scheduler", make)
        router = SloRouter(pools, config, Knowledge(saved_models=saved))
    simulation = Simulation(spec, pools, router, requests, MemorySink())
    [scheduler] = made
    scheduler.now_s = lambda: simulation.now_s
    simulation.run()
    return scheduler, router.learnt


# --- the same through the router's dispatcher ---


@dataclass(slots=True)
class Alarm:
    at_s: float
    callback: Callable[[], None]
    is_set: bool = True

    def cancel(self) -> None:
        self.is_set = False


class Replay:
    """Is clock, event loop and all requests of a dispatcher."""

    def __init__(
        self,
        config: SchedulerConfig,
        workers: list[WorkerFacts],
        saved: LatencySnapshot | None = None,
    ) -> None:
        self.at_s = 0.0
        self.decisions: list[Decision] = []
        self.heard: list[tuple[object, ...]] = []
        """What requests were told, in order."""
        self._soon: list[Callable[[], None]] = []
        self._alarm: Alarm | None = None
        registry = Registry(self, BreakerConfig(), HealthConfig(), lambda worker: None)
        roles = tuple(dict.fromkeys(facts.role for facts in workers))
        models = LatencyModels(saved=saved)
        self.dispatcher = Dispatcher(
            Scheduler(config, models),
            registry,
            roles=roles,
            pairs=PairBook(LinkConfig()),
            models_of=lambda worker: models,
            now_s=self.now_s,
            timers=self,
            on_decision=self.decisions.append,
        )
        for port, facts in enumerate(workers, start=1000):
            _join(registry, facts, port)
        self._soon.clear()

    def now_s(self) -> float:
        return self.at_s

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._alarm = Alarm(self.at_s + delay_s, callback)
        return cast(asyncio.TimerHandle, self._alarm)

    def play(self, history: list[Event]) -> None:
        self.dispatcher._is_due = False
        for event in history:
            self._assert_no_alarm_before(event.at_s)
            self.at_s = event.at_s
            self._tell(event)

    def _tell(self, event: Event) -> None:
        dispatcher = self.dispatcher
        if isinstance(event, Arrived):
            dispatcher.apply(Listener(self, event.facts.request_id), event.facts)
        elif isinstance(event, PrefillOver):
            dispatcher.prefill_over(event.request_id)
        elif isinstance(event, FirstToken):
            dispatcher.first_token(event.request_id)
        elif isinstance(event, Over):
            dispatcher.over(event.request_id, event.num_output_tokens, event.decode_s)
        elif isinstance(event, Reported):
            dispatcher.report(event.worker_id, event.report)
        else:
            self._end_turn()

    def _end_turn(self) -> None:
        """Have the dispatcher decide: because something happened, or because of its alarm."""
        callbacks, self._soon = self._soon, []
        if not callbacks:
            alarm = self._alarm
            assert alarm is not None
            assert alarm.is_set
            assert alarm.at_s == pytest.approx(self.at_s, abs=SAME_INSTANT_S, rel=0)
            alarm.is_set = False
            callbacks = [alarm.callback]
        for callback in callbacks:
            callback()

    def _assert_no_alarm_before(self, at_s: float) -> None:
        alarm = self._alarm
        if alarm is not None and alarm.is_set and not self._soon:
            assert alarm.at_s > at_s - SAME_INSTANT_S, "the simulator would have decided then"


def _join(registry: Registry, facts: WorkerFacts, port: int) -> None:
    spec = WorkerSpec(url=f"http://10.0.0.1:{port}", role=facts.role)
    worker = registry.new_worker(facts.worker_id, spec)
    worker.is_probed = True
    worker.metadata["max_total_num_tokens"] = facts.kv_capacity_tokens
    registry.add(worker)


class Listener:
    """A request that tells the replay what it hears."""

    def __init__(self, replay: Replay, request_id: str) -> None:
        self._replay = replay
        self._request_id = request_id

    def assigned(self, assignment: Assignment) -> None:
        prefill = assignment.prefill
        self._replay.heard.append(
            (
                self._request_id,
                assignment.worker.worker_id,
                None if prefill is None else prefill.worker_id,
                assignment.priority,
            )
        )

    def turned_away(self, error: RequestError) -> None:
        self._replay.heard.append((self._request_id, error.code, error.retry_after_s))

    def recalled(self) -> None:
        self._replay.heard.append((self._request_id, "recalled"))


def expected(action: Action) -> tuple[object, ...]:
    """What a request hears of a decision."""
    match action:
        case Dispatch():
            prefill_id = action.prefill_worker_id
            return action.request_id, action.worker_id, prefill_id, action.priority
        case Rejection():
            return action.request_id, "slo_infeasible", action.retry_after_s
        case Recall():
            return action.request_id, "recalled"


def mixed_promises(num_requests: int, rate_per_s: float) -> Iterator[PlannedRequest]:
    """Requests with shared prefixes and promises from tight to none, more than can be kept."""
    slos = (Slo(ttft_s=0.15, tpot_s=0.02), Slo(ttft_s=0.5, tpot_s=0.05), Slo(ttft_s=3.0), Slo())
    for index, made in enumerate(poisson(num_requests, rate_per_s)):
        yield planned(
            index,
            made.at_s,
            prompt_tokens=made.prompt.num_tokens,
            output_tokens=made.num_output_tokens,
            slo=slos[index % len(slos)],
            prefix=index % 7 if index % 2 else None,
            class_name=f"class-{index % len(slos)}",
        )


@pytest.mark.parametrize("on_infeasible", OnInfeasible)
@pytest.mark.parametrize(
    ("spec", "rate_per_s"),
    [(PAIRS, 250.0), (UNIFIED, 400.0)],
    ids=["2 prefill + 2 decode", "4 unified"],
)
def test_decisions_are_the_same(
    spec: SimSpec,
    rate_per_s: float,
    on_infeasible: OnInfeasible,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SchedulerConfig(on_infeasible=on_infeasible)
    requests = mixed_promises(NUM_REQUESTS, rate_per_s)
    scheduler, _ = simulated(spec, config, requests, monkeypatch)
    made = _actions(scheduler.history)
    _assert_worth_comparing(made, spec)
    replay = Replay(config, scheduler.workers)
    replay.play(scheduler.history)
    _assert_same(replay, made)


def test_what_is_taken_back_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that knows the workers, and has no patience with them."""
    light = poisson(400, 20.0)
    _, saved = simulated(PAIRS, SchedulerConfig(), light, monkeypatch)
    config = SchedulerConfig(overdue_ratio=1.0, overdue_s=0.0)
    requests = mixed_promises(NUM_REQUESTS, 250.0)
    scheduler, _ = simulated(PAIRS, config, requests, monkeypatch, saved)
    made = _actions(scheduler.history)
    assert sum(isinstance(action, Recall) for action in made) >= 10
    replay = Replay(config, scheduler.workers, saved)
    replay.play(scheduler.history)
    _assert_same(replay, made)


def _actions(history: list[Event]) -> list[Action]:
    return [action for event in history if isinstance(event, Decided) for action in event.actions]


def _assert_same(replay: Replay, made: list[Action]) -> None:
    assert replay.decisions == [action.decision for action in made]
    assert replay.heard == [expected(action) for action in made]
    assert replay.dispatcher._applicants == {}


def _assert_worth_comparing(made: list[Action], spec: SimSpec) -> None:
    """More than can be on time, all workers used, and requests that waited."""
    assert {action.request_id for action in made} == {f"r{index}" for index in range(NUM_REQUESTS)}
    sent = [action for action in made if isinstance(action, Dispatch)]
    num_workers = spec.num_workers or spec.num_prefill
    assert len({action.prefill_worker_id or action.worker_id for action in sent}) == num_workers
    assert {Reason.LATE, Reason.AGED, Reason.INFEASIBLE} & {a.decision.reason for a in made}
    assert max(action.decision.waited_s for action in made) > 0.1
    assert Role.DECODE not in spec.num_of or len({action.worker_id for action in sent}) == 2
