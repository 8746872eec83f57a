"""Keeps requests waiting until the scheduler sends them, and tells it what becomes of them.

What happens during one turn of the event loop is told first; the decisions follow at the turn's
end, so that requests that come together are decided about together.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from hfx_router.metrics.histogram import Histogram
from hfx_router.pairs.refusal import no_pair
from hfx_router.scheduling.decider import Decider
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import RejectedError, RequestError, UnavailableError
from hfx_sgl.policy.latency import LatencyModels
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.view import with_partner
from hfx_sgl.policy.scheduler.decision import Decision
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    Rejection,
    RequestFacts,
    WorkerFacts,
    WorkerReport,
)
from hfx_sgl.types import Role

NO_WORKERS_RETRY_AFTER_S = 1.0
"""A worker that comes back is noticed within about a second."""

_ASSUMED_KV_TOKENS = 1_048_576
"""KV room of a worker that does not tell its own: so much that it hardly ever holds a request back,
and still bounds the memory of what the worker was sent."""


_TIMED_EVERY = 8
"""One call of so many to the scheduler is timed."""


class Assignment(Struct, frozen=True, gc=False):
    """Who serves a request."""

    worker: Worker
    """Who answers the client."""
    prefill: Worker | None
    """With PD disaggregation."""
    priority: int
    """For engines that schedule by it: the higher, the sooner."""


class Applicant(Protocol):
    """A request that wants to be sent."""

    def assigned(self, assignment: Assignment) -> None:
        """Send it, at once."""
        ...

    def turned_away(self, error: RequestError) -> None:
        """It is not going to be sent."""
        ...

    def recalled(self) -> None:
        """Take it back from its workers; `assigned` follows."""
        ...


class Timers(Protocol):
    """What an event loop offers."""

    def call_soon(self, callback: Callable[[], None]) -> object:
        """Call at the end of this turn."""
        ...

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call after some time."""
        ...


class Dispatcher:
    """Acts on the decisions of a `Scheduler`.

    Args:
        roles: the pools that every request needs.
        models_of: the latency models of a worker's class.
        pairs: which of them may be chosen; the scheduler's own.
        on_decision: told of every decision.
        decide_s: where the time of some calls to the scheduler is counted; None: nowhere.
        on_handoff: told what was expected of a hand-off that a worker tells of, and what it took.
    """

    def __init__(
        self,
        scheduler: Decider,
        registry: Registry,
        *,
        roles: tuple[Role, ...],
        pairs: PairBook,
        models_of: Callable[[Worker], LatencyModels],
        now_s: Callable[[], float],
        timers: Timers,
        on_decision: Callable[[Decision], None],
        decide_s: Histogram | None = None,
        on_handoff: Callable[[float, float], None] = lambda predicted_s, observed_s: None,
    ) -> None:
        self._scheduler = scheduler
        self._pairs = pairs
        self._on_handoff = on_handoff
        self._registry = registry
        self._roles = roles
        self._models_of = models_of
        self._now_s = now_s
        self._timers = timers
        self._on_decision = on_decision
        self._decide_s = decide_s
        self._num_decided = 0
        self._applicants: dict[str, Applicant] = {}
        """Everybody whose request is not over."""
        self._waiting: set[str] = set()
        """Of their tickets, those that wait to be sent."""
        self._known: dict[str, tuple[Worker, bool]] = {}
        """Workers that the scheduler knows, and whether it may use them."""
        self._num_tickets = 0
        self._is_due = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_s = math.inf
        registry.subscribe(self._workers_changed)
        # While the scheduler decides, it may change them itself.
        pairs.subscribe(self._decide_soon)

    @property
    def model_id(self) -> str:
        """The model of the workers; of several, that of the first."""
        workers = self._registry.usable(self._roles[0])
        return workers[0].model_id if workers else ""

    def draw_ticket(self) -> str:
        """Return the id under which the scheduler knows a new request."""
        self._num_tickets += 1
        return str(self._num_tickets)

    def missing_role(self) -> Role | None:
        """Return a pool that a request needs and that has no usable worker; None: all have."""
        for role in self._roles:
            if not self._registry.usable(role):
                return role
        return None

    def unavailable(self) -> UnavailableError | None:
        """Return why no request can be sent at all; None when there are workers for them."""
        role = self.missing_role()
        if role is not None:
            return no_worker(role)
        if self._pairs.barred:
            prefills, decodes = map(self._registry.usable, (Role.PREFILL, Role.DECODE))
            if not with_partner(self._pairs, prefills, decodes):
                return no_pair(self._pairs, self._registry, self._now_s())
        return None

    # --- what happens to requests ---

    def apply(self, applicant: Applicant, facts: RequestFacts) -> None:
        """A request wants to be sent; `facts.request_id` is its ticket."""
        self._applicants[facts.request_id] = applicant
        self._waiting.add(facts.request_id)
        self._scheduler.arrive(facts)
        self._decide_soon()

    def prefill_over(self, ticket: str) -> None:
        """Its prompt has been computed, as far as can be seen."""
        self._scheduler.prefill_over(ticket, self._now_s())
        self._decide_soon()

    def first_token(self, ticket: str) -> None:
        """With prefill and decode apart: its first token came."""
        self._scheduler.first_token(ticket, self._now_s())

    def over(
        self, ticket: str, num_output_tokens: int | None, decode_s: float | None = None
    ) -> None:
        """It has ended, or is not wanted any more.

        Args:
            num_output_tokens: of a complete answer, if it tells.
            decode_s: from its first token to its last, where that was seen.
        """
        if self._applicants.pop(ticket, None) is None:
            return  # the scheduler has let go of it
        self._waiting.discard(ticket)
        self._scheduler.over(ticket, self._now_s(), num_output_tokens, decode_s)
        self._decide_soon()

    # --- what happens to workers ---

    def report(self, worker_id: str, report: WorkerReport) -> None:
        """A worker has told of itself."""
        handoff = self._scheduler.report(worker_id, report)
        if handoff is not None:
            self._on_handoff(*handoff)
        self._decide_soon()

    def _workers_changed(self) -> None:
        present = {
            worker.worker_id: worker
            for worker in self._registry.workers
            if worker.is_probed and worker.role in self._roles
        }
        for worker_id, (worker, _) in list(self._known.items()):
            if present.get(worker_id) is not worker:
                del self._known[worker_id]
                self._scheduler.remove_worker(worker_id)
        for role in self._roles:
            usable = set(self._registry.usable(role))
            for worker_id, worker in present.items():
                if worker.role is role:
                    self._set_usable(worker_id, worker, worker in usable)
        self._refuse_hopeless()
        self._decide_soon()

    def _set_usable(self, worker_id: str, worker: Worker, is_usable: bool) -> None:
        before = self._known.get(worker_id)
        if before is None:
            self._scheduler.add_worker(worker_facts(worker, self._models_of(worker)))
        if is_usable is not (before is None or before[1]):
            self._scheduler.set_usable(worker_id, is_usable)
        self._known[worker_id] = worker, is_usable

    def _refuse_hopeless(self) -> None:
        """Nobody waits for workers that are not there, or that may not be paired."""
        if not self._waiting:
            return
        error = self.unavailable()
        if error is not None:
            for ticket in list(self._waiting):
                self._applicants[ticket].turned_away(error)

    # --- decisions ---

    def _decide_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._timers.call_soon(self._decide)

    def _decide(self) -> None:
        self._is_due = False
        now_s = self._now_s()
        actions = self._scheduler.decide(now_s)
        if self._num_decided % _TIMED_EVERY == 0 and self._decide_s is not None:
            self._decide_s.observe(self._now_s() - now_s)
        self._num_decided += 1
        for action in actions:
            self._on_decision(action.decision)
            self._act(action)
        self._refuse_hopeless()  # one that was recalled may have come back to an empty pool
        self._set_alarm(now_s)

    def _act(self, action: Action) -> None:
        applicant = self._applicants[action.request_id]
        if isinstance(action, Dispatch):
            self._waiting.remove(action.request_id)
            prefill_id = action.prefill_worker_id
            applicant.assigned(
                Assignment(
                    self._known[action.worker_id][0],
                    None if prefill_id is None else self._known[prefill_id][0],
                    action.priority,
                )
            )
        elif isinstance(action, Rejection):
            del self._applicants[action.request_id]
            self._waiting.remove(action.request_id)
            applicant.turned_away(
                RejectedError(
                    "the promised latency cannot be kept at present (--on-infeasible reject)",
                    code="slo_infeasible",
                    # One that can never be on time, however idle the workers, gains nothing.
                    retry_after_s=action.retry_after_s if action.retry_after_s < math.inf else None,
                )
            )
        else:
            self._waiting.add(action.request_id)
            applicant.recalled()

    def _set_alarm(self, now_s: float) -> None:
        """Decide again when the scheduler could, though nothing happens before."""
        at_s = self._scheduler.next_decision_s(now_s)
        if at_s == self._alarm_at_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at_s = at_s
        if at_s < math.inf:
            self._alarm = self._timers.call_later(at_s - now_s, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._alarm_at_s = math.inf
        if not self._is_due:
            self._decide()

    def close(self) -> None:
        """Decide no more by itself."""
        if self._alarm is not None:
            self._alarm.cancel()


def worker_facts(worker: Worker, models: LatencyModels) -> WorkerFacts:
    """Return a worker as the scheduler knows it."""
    capacity = worker.metadata.get("max_total_num_tokens")
    return WorkerFacts(
        worker_id=worker.worker_id,
        role=worker.role,
        kv_capacity_tokens=(
            capacity if isinstance(capacity, int) and capacity > 0 else _ASSUMED_KV_TOKENS
        ),
        models=models,
    )


def no_worker(role: Role) -> UnavailableError:
    """Return the error of a request for which there is no worker."""
    return UnavailableError(f"no {role} worker is usable", retry_after_s=NO_WORKERS_RETRY_AFTER_S)
