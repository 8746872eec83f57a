"""manual: one worker per routing key, for as long as the key is in use."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfx_sgl.policy.selection.config import AssignmentMode, SelectionConfig
from hfx_sgl.policy.selection.random_choice import RandomChoice
from hfx_sgl.policy.view import RequestView, WorkerT

if TYPE_CHECKING:
    from random import Random

MAX_KEYS = 262_144
"""Keys remembered at most. Clients make keys up, so their number must not be theirs to choose."""

_NUM_TABLES = 256
_LOOKS_PER_CALL = 4


class _Assignment:
    """Where a key goes, and when it was last used."""

    __slots__ = ("used_at_s", "worker_id")

    def __init__(self, worker_id: str, used_at_s: float) -> None:
        self.worker_id = worker_id
        self.used_at_s = used_at_s


class Manual:
    """Sticky by `routing_key`; a request without one goes anywhere.

    Keys are held by their hash, so a long one costs no more than a short one. They stand in line
    for expiry, each once; a key that reaches the head and was used meanwhile goes to the end. An
    idle key therefore takes up memory for up to twice `max_idle_s`, but is not honoured that
    long. Many small tables avoid the pause that resizing a single large one would bring.
    """

    __slots__ = ("_line", "_max_idle_s", "_mode", "_num_keys_of", "_random", "_tables")

    def __init__(self, config: SelectionConfig, rng: "Random") -> None:
        self._max_idle_s = config.max_idle_s
        self._mode = config.assignment_mode
        self._random = RandomChoice(rng)
        self._tables: list[dict[int, _Assignment]] = [{} for _ in range(_NUM_TABLES)]
        self._line: deque[tuple[int, float]] = deque()
        self._num_keys_of: Counter[str] = Counter()

    @property
    def num_keys(self) -> int:
        """Routing keys held in memory, those included that are idle and not dropped yet."""
        return len(self._line)

    def select(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        """Return the key's worker; assign one when it has none among the candidates."""
        if self._line:
            self._drop_idle(now_s)
        if request.routing_key is None:
            return self._random.select(request, candidates, now_s)
        key = hash(request.routing_key)
        table = self._tables[key % _NUM_TABLES]
        assignment = table.get(key)
        if assignment is None:
            return self._assign(key, request, candidates, now_s)
        if now_s - assignment.used_at_s < self._max_idle_s:
            for worker in candidates:
                if worker.worker_id == assignment.worker_id:
                    assignment.used_at_s = now_s
                    return worker
        self._uncount(assignment.worker_id)
        worker = self._pick(request, candidates, now_s)
        self._num_keys_of[worker.worker_id] += 1
        assignment.worker_id = worker.worker_id
        assignment.used_at_s = now_s
        return worker

    def forget(self, worker_id: str) -> None:
        """Drop the worker's count; its keys find it missing when they are used next."""
        self._num_keys_of.pop(worker_id, None)

    def _assign(
        self, key: int, request: RequestView, candidates: Sequence[WorkerT], now_s: float
    ) -> WorkerT:
        """Take in a key that is not in memory."""
        if len(self._line) >= MAX_KEYS:
            self._drop_one()
        worker = self._pick(request, candidates, now_s)
        self._num_keys_of[worker.worker_id] += 1
        self._tables[key % _NUM_TABLES][key] = _Assignment(worker.worker_id, now_s)
        self._line.append((key, now_s))
        return worker

    def _pick(self, request: RequestView, candidates: Sequence[WorkerT], now_s: float) -> WorkerT:
        num_keys_of = self._num_keys_of
        if self._mode is AssignmentMode.MIN_LOAD:
            return min(candidates, key=lambda w: (w.num_inflight, num_keys_of[w.worker_id]))
        if self._mode is AssignmentMode.MIN_GROUP:
            return min(candidates, key=lambda w: (num_keys_of[w.worker_id], w.num_inflight))
        return self._random.select(request, candidates, now_s)

    def _drop_idle(self, now_s: float) -> None:
        """Look at the head of the line, a few keys a call, and drop those that are idle."""
        line = self._line
        for _ in range(_LOOKS_PER_CALL):
            if not line or now_s - line[0][1] < self._max_idle_s:
                return
            key, _ = line.popleft()
            used_at_s = self._tables[key % _NUM_TABLES][key].used_at_s
            if now_s - used_at_s < self._max_idle_s:
                line.append((key, used_at_s))
            else:
                self._drop(key)

    def _drop_one(self) -> None:
        """Drop a key from the head of the line, passing over a few that were used meanwhile."""
        line = self._line
        for _ in range(_LOOKS_PER_CALL):
            key, lined_up_at_s = line[0]
            used_at_s = self._tables[key % _NUM_TABLES][key].used_at_s
            if used_at_s == lined_up_at_s:
                break
            line.rotate(-1)
            line[-1] = (key, used_at_s)
        self._drop(line.popleft()[0])

    def _drop(self, key: int) -> None:
        self._uncount(self._tables[key % _NUM_TABLES].pop(key).worker_id)

    def _uncount(self, worker_id: str) -> None:
        """Take one key off a worker's count, unless the worker was forgotten."""
        if worker_id in self._num_keys_of:
            self._num_keys_of[worker_id] -= 1
