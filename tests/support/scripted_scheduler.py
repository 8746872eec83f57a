"""A scheduler that writes down what it is told and answers what a test wants."""

import math
from collections.abc import Callable
from typing import Any

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

Answer = Callable[[float], list[Action]]


class ScriptedScheduler:
    """Stands in for `Scheduler`; `decide` is set by the test."""

    def __init__(self, config: Any = None, models: Any = None) -> None:
        self.decide: Answer = lambda now_s: []
        self.workers: list[str] = []
        self.arrived: list[RequestFacts] = []
        self.prefilled: list[tuple[str, float]] = []
        self.answered: list[tuple[str, float]] = []
        """First tokens, with prefill and decode apart."""
        self.ended: list[tuple[str, int | None]] = []
        self.reports: list[tuple[str, WorkerReport]] = []
        self.alarms_s: list[float] = []
        """When it wants to be asked again, one after the other."""

    def add_worker(self, facts: WorkerFacts) -> None:
        self.workers.append(facts.worker_id)

    def arrive(self, facts: RequestFacts) -> None:
        self.arrived.append(facts)

    def prefill_over(self, request_id: str, now_s: float) -> None:
        self.prefilled.append((request_id, now_s))

    def first_token(self, request_id: str, now_s: float) -> None:
        self.answered.append((request_id, now_s))

    def over(self, request_id: str, now_s: float, num_output_tokens: int | None) -> None:
        self.ended.append((request_id, num_output_tokens))

    def report(self, worker_id: str, report: WorkerReport) -> None:
        self.reports.append((worker_id, report))

    def next_decision_s(self, now_s: float) -> float:
        return next((at_s for at_s in self.alarms_s if at_s > now_s), math.inf)


def dispatch(
    request_id: str, worker_id: str, prefill_worker_id: str | None = None, priority: int = 0
) -> Dispatch:
    return Dispatch(
        request_id=request_id,
        worker_id=worker_id,
        prefill_worker_id=prefill_worker_id,
        is_on_time=True,
        predicted_prefill_s=0.0,
        num_hit_tokens=0,
        priority=priority,
        decision=_decision(request_id),
    )


def rejection(request_id: str) -> Rejection:
    return Rejection(request_id=request_id, retry_after_s=1.0, decision=_decision(request_id))


def recall(request_id: str) -> Recall:
    return Recall(request_id=request_id, decision=_decision(request_id))


def _decision(request_id: str) -> Decision:
    """Return one that nobody looks at."""
    return Decision(
        request_id=request_id,
        class_name="chat",
        at_s=0.0,
        waited_s=0.0,
        reason=Reason.ON_TIME,
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
