"""What a selection policy may see. Adapters provide objects of these shapes; policies only read."""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class WorkerView(Protocol):
    """One worker at the moment of the decision.

    A decision is synchronous and nothing else runs meanwhile, so an adapter may hand in
    its live records: they cannot change under the policy's hands.
    """

    @property
    def worker_id(self) -> str:
        """Stable identity; a re-registered worker gets a new one."""
        ...

    @property
    def num_inflight(self) -> int:
        """Requests sent by this router and not finished yet."""
        ...


class RequestView(Protocol):
    """One request as a selection policy sees it. A policy that does not ask costs nothing."""

    @property
    def prompt(self) -> bytes:
        """The JSON text of the prompt-bearing field (`messages`, `prompt`, `text`, `input_ids`)."""
        ...

    @property
    def routing_key(self) -> str | None:
        """The client's `x-smg-routing-key`; None when it sent none."""
        ...


WorkerT = TypeVar("WorkerT", bound=WorkerView)


class SelectionPolicy(Protocol):
    """Chooses one worker among those that are usable."""

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return one of `candidates`, which is never empty.

        `now_s` never decreases between calls. The caller sends the request to the answer.
        """
        ...

    def forget(self, worker_id: str) -> None:
        """Drop what is remembered about a worker that has left for good."""
        ...
