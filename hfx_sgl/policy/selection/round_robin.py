"""round_robin: one candidate after the other."""

from collections.abc import Sequence

from hfx_sgl.policy.view import RequestView, WorkerT


class RoundRobin:
    """Goes around the candidates in the order given.

    There is one cursor for each worker that heads a list of candidates. So lists of different
    workers (other models, a retry without the worker that failed) do not advance each other's
    turn: with a single cursor, two lists asked in alternation could each starve half of theirs.
    """

    __slots__ = ("_cursors",)

    def __init__(self) -> None:
        self._cursors: dict[str, int] = {}

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the candidate whose turn it is."""
        head_id = candidates[0].worker_id
        index = self._cursors.get(head_id, 0)
        if index >= len(candidates):
            index = 0
        self._cursors[head_id] = index + 1
        return candidates[index]

    def forget(self, worker_id: str) -> None:
        """Drop the cursor of the lists that the worker headed."""
        self._cursors.pop(worker_id, None)
