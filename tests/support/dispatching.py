"""A dispatcher with time, event loop, workers and requests in the test's hands."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from hfx_router.scheduling.dispatcher import Assignment, Dispatcher
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec
from msgspec.structs import replace
from support.scheduling import plain_models, request

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import RequestError
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig
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
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role


@dataclass(slots=True)
class FakeAlarm:
    """What `call_later` returns."""

    at_s: float
    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeTimers:
    """An event loop that turns when told to."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.soon: list[Callable[[], None]] = []
        self.alarms: list[FakeAlarm] = []
        """Every alarm that was ever set."""

    @property
    def pending(self) -> list[FakeAlarm]:
        """Alarms that are set."""
        return [alarm for alarm in self.alarms if not alarm.is_cancelled]

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        assert delay_s > 0
        alarm = FakeAlarm(self._clock.now_s() + delay_s, callback)
        self.alarms.append(alarm)
        return cast(asyncio.TimerHandle, alarm)

    def turn(self) -> None:
        """End this turn of the loop: call whoever wants to be called, once."""
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()

    def advance(self, duration_s: float) -> None:
        """Let time pass; alarms ring at their instants, each in a turn of its own."""
        end_s = self._clock.now_s() + duration_s
        while due := [alarm for alarm in self.pending if alarm.at_s <= end_s]:
            self._ring(min(due, key=lambda alarm: alarm.at_s))
        self._clock.advance(max(0.0, end_s - self._clock.now_s()))

    def _ring(self, alarm: FakeAlarm) -> None:
        self._clock.advance(max(0.0, alarm.at_s - self._clock.now_s()))
        alarm.is_cancelled = True  # it has rung, and will not again
        alarm.callback()
        while self.soon:
            self.turn()


class ScriptedScheduler:
    """Decides what the test says, and writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []
        self.next_actions: list[Action] = []
        self.next_at_s = math.inf
        self.num_decided = 0

    def add_worker(self, facts: WorkerFacts) -> None:
        self.heard.append(("add_worker", facts))

    def remove_worker(self, worker_id: str) -> None:
        self.heard.append(("remove_worker", worker_id))

    def set_usable(self, worker_id: str, is_usable: bool) -> None:
        self.heard.append(("set_usable", worker_id, is_usable))

    def arrive(self, facts: RequestFacts) -> None:
        self.heard.append(("arrive", facts.request_id))

    def prefill_over(self, request_id: str, now_s: float) -> None:
        self.heard.append(("prefill_over", request_id, now_s))

    def first_token(self, request_id: str, now_s: float) -> None:
        self.heard.append(("first_token", request_id, now_s))

    def over(
        self,
        request_id: str,
        now_s: float,
        num_output_tokens: int | None,
        decode_s: float | None = None,
    ) -> None:
        self.heard.append(("over", request_id, now_s, num_output_tokens, decode_s))

    def report(self, worker_id: str, report: WorkerReport) -> None:
        self.heard.append(("report", worker_id))

    def decide(self, now_s: float) -> list[Action]:
        self.num_decided += 1
        actions, self.next_actions = self.next_actions, []
        return actions

    def next_decision_s(self, now_s: float) -> float:
        return self.next_at_s

    def told_since(self, mark: int) -> list[tuple[object, ...]]:
        """Return what was said after the first `mark` things."""
        return self.heard[mark:]


@dataclass
class FakeApplicant:
    """Notes what the dispatcher says; leaves when told to, or when it is turned away."""

    dispatcher: Dispatcher
    ticket: str
    heard: list[str] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    error: RequestError | None = None

    def assigned(self, assignment: Assignment) -> None:
        self.heard.append("assigned")
        self.assignments.append(assignment)

    def turned_away(self, error: RequestError) -> None:
        self.heard.append("turned away")
        self.error = error
        self.leave()

    def recalled(self) -> None:
        self.heard.append("recalled")

    def leave(self, num_output_tokens: int | None = None, decode_s: float | None = None) -> None:
        self.dispatcher.over(self.ticket, num_output_tokens, decode_s)

    @property
    def worker_id(self) -> str:
        """Who answers it."""
        return self.assignments[-1].worker.worker_id

    @property
    def prefill_id(self) -> str | None:
        """Who computes its prompt, with PD disaggregation."""
        prefill = self.assignments[-1].prefill
        return None if prefill is None else prefill.worker_id


class Desk:
    """A dispatcher with everything around it faked but the registry."""

    def __init__(
        self,
        scheduler: ScriptedScheduler | Scheduler,
        *,
        roles: tuple[Role, ...] = (Role.REGULAR,),
        pairs: PairBook | None = None,
    ) -> None:
        """`pairs` are those that the scheduler reads; None: any may be chosen."""
        self.clock = FakeClock(100.0)
        self.timers = FakeTimers(self.clock)
        self.models = plain_models()
        self.decisions: list[Decision] = []
        self.pairs = pairs or PairBook(LinkConfig())
        self.registry = Registry(
            self.clock,
            BreakerConfig(failure_threshold=1, timeout_s=10.0),
            HealthConfig(failure_threshold=1, success_threshold=1),
            lambda worker: None,
        )
        self.dispatcher = Dispatcher(
            scheduler,
            self.registry,
            roles=roles,
            pairs=self.pairs,
            models_of=lambda worker: self.models,
            now_s=self.clock.now_s,
            timers=self.timers,
            on_decision=self.decisions.append,
        )

    def add_worker(self, worker_id: str, role: Role = Role.REGULAR) -> Worker:
        """Have a worker join that has been probed."""
        number = 1000 + len(self.registry.workers)
        spec = WorkerSpec(url=f"http://10.0.0.1:{number}", role=role)
        worker = self.registry.new_worker(worker_id, spec)
        worker.is_probed = True
        worker.metadata["max_total_num_tokens"] = 1_000_000
        self.registry.add(worker)
        return worker

    def apply(
        self,
        num_prompt_tokens: int = 100,
        *,
        ttft_s: float = math.inf,
        avoided_ids: frozenset[str] = frozenset(),
    ) -> FakeApplicant:
        """Have a request come."""
        applicant = FakeApplicant(self.dispatcher, self.dispatcher.draw_ticket())
        facts = request(
            applicant.ticket,
            num_prompt_tokens,
            at_s=self.clock.now_s(),
            ttft_s=ttft_s,
        )
        self.dispatcher.apply(applicant, replace(facts, avoided_ids=avoided_ids))
        return applicant

    @property
    def is_empty(self) -> bool:
        """Whether the dispatcher holds nothing of any request."""
        return not self.dispatcher._applicants and not self.dispatcher._waiting


def dispatch(
    applicant: FakeApplicant, worker_id: str = "u0", prefill_worker_id: str | None = None
) -> Dispatch:
    """The decision to send."""
    return Dispatch(
        request_id=applicant.ticket,
        worker_id=worker_id,
        prefill_worker_id=prefill_worker_id,
        is_on_time=True,
        predicted_prefill_s=0.1,
        num_hit_tokens=0,
        priority=-7,
        decision=decision(applicant.ticket, Reason.ON_TIME),
    )


def rejection(applicant: FakeApplicant, retry_after_s: float = 2.5) -> Rejection:
    """The decision to turn away."""
    return Rejection(
        request_id=applicant.ticket,
        retry_after_s=retry_after_s,
        decision=decision(applicant.ticket, Reason.INFEASIBLE),
    )


def recall(applicant: FakeApplicant) -> Recall:
    """The decision to take back."""
    return Recall(request_id=applicant.ticket, decision=decision(applicant.ticket, Reason.STUCK))


def decision(request_id: str, reason: Reason) -> Decision:
    """Numbers that explain nothing."""
    return Decision(
        request_id=request_id,
        class_name="chat",
        at_s=0.0,
        waited_s=0.0,
        reason=reason,
        worker_id=None,
        prefill_worker_id=None,
        predicted_ttft_s=0.0,
        predicted_tpot_s=0.0,
        slack_s=0.0,
        num_prompt_tokens=1,
        num_hit_tokens=0,
        expected_output_tokens=1,
        num_waiting=0,
        num_late=0,
        candidates=(),
    )
