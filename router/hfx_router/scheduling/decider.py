"""What the dispatcher needs of a scheduler."""

from collections.abc import Sequence
from typing import Protocol

from hfx_sgl.policy.scheduler.facts import Action, RequestFacts, WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.handoff import SeenHandoff


class Decider(Protocol):
    """See `hfx_sgl.policy.scheduler.scheduler.Scheduler`."""

    def add_worker(self, facts: WorkerFacts) -> None:
        """A worker can be used from here on."""
        ...

    def remove_worker(self, worker_id: str) -> None:
        """A worker gets nothing any more."""
        ...

    def set_usable(self, worker_id: str, is_usable: bool) -> None:
        """Give a worker nothing for a while, or again."""
        ...

    def report(self, worker_id: str, report: WorkerReport) -> SeenHandoff | None:
        """A worker has told of itself; return a hand-off that it told of for the first time."""
        ...

    def arrive(self, facts: RequestFacts) -> None:
        """A request is here and waits."""
        ...

    def prefill_over(self, request_id: str, now_s: float) -> None:
        """Its prompt has been computed."""
        ...

    def first_token(self, request_id: str, now_s: float) -> None:
        """With prefill and decode apart: its first token came."""
        ...

    def over(
        self,
        request_id: str,
        now_s: float,
        num_output_tokens: int | None,
        decode_s: float | None = None,
    ) -> None:
        """The request has ended, or its client left."""
        ...

    def decide(self, now_s: float) -> Sequence[Action]:
        """Return what to do now, in this order."""
        ...

    def next_decision_s(self, now_s: float) -> float:
        """Return when to ask `decide` again though nothing happens before."""
        ...
