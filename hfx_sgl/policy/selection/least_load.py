"""least_load: the candidate with the fewest requests in flight."""

from collections.abc import Sequence

from hfx_sgl.policy.view import RequestView, WorkerT


class LeastLoad:
    """Looks at every load; equally loaded workers take turns, in the order given.

    Turns are kept per list of candidates, by its first worker, as `round_robin` does.
    """

    __slots__ = ("_cursors",)

    def __init__(self) -> None:
        self._cursors: dict[str, int] = {}

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the least loaded candidate, among equals the next after the last one chosen."""
        head_id = candidates[0].worker_id
        loads = [worker.num_inflight for worker in candidates]
        lowest = min(loads)
        start = self._cursors.get(head_id, 0)
        index = loads.index(lowest, start) if lowest in loads[start:] else loads.index(lowest)
        self._cursors[head_id] = index + 1
        return candidates[index]

    def forget(self, worker_id: str) -> None:
        """Drop the cursor of the lists that the worker headed."""
        self._cursors.pop(worker_id, None)
