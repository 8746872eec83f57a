"""Workers in order of a number that changes: who is first is known at once."""

import math
from bisect import bisect_left

from hfx_sgl.policy.scheduler.worker_state import WorkerState

_Key = tuple[float, float, int]


class Ranking:
    """Lowest first, by two numbers, then by the order in which workers joined.

    Two sorted lists: finding a place takes log n steps, and shifting what is behind it is one move
    of memory, a few microseconds for ten thousand workers.
    """

    __slots__ = ("_keys", "_order", "states")

    def __init__(self) -> None:
        self.states: list[WorkerState] = []
        """In order. To be read only."""
        self._order: list[_Key] = []
        self._keys: dict[int, _Key] = {}

    @property
    def lowest(self) -> float:
        """The first number of the first worker; `math.inf` when there is none."""
        return self._order[0][0] if self._order else math.inf

    def put(self, state: WorkerState, first: float, second: float = 0.0) -> None:
        """Put a worker in its place, or in another one when it is here already."""
        sequence = state.sequence
        key = (first, second, sequence)
        order = self._order
        before = self._keys.get(sequence)
        if before == key:
            return
        if before is not None:
            position = bisect_left(order, before)
            if (position == 0 or order[position - 1] < key) and (
                position + 1 == len(order) or key < order[position + 1]
            ):
                # It stays between its neighbours, as most often.
                self._keys[sequence] = order[position] = key
                return
            self.discard(state)
        self._keys[sequence] = key
        position = bisect_left(order, key)
        order.insert(position, key)
        self.states.insert(position, state)

    def discard(self, state: WorkerState) -> bool:
        """Take a worker out; return whether it was here."""
        key = self._keys.pop(state.sequence, None)
        if key is None:
            return False
        position = bisect_left(self._order, key)
        del self._order[position]
        del self.states[position]
        return True
