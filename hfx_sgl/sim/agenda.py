"""What is going to happen when. Equal instants keep the order in which they were entered."""

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[[float, Any], None]
"""Called with the instant and with what it was entered with."""


class Agenda:
    """A heap of actions, and the virtual clock.

    Entries are never taken out: an action has to find out itself that it is out of date.
    """

    __slots__ = ("_heap", "_num_entered", "ends_at_s", "is_done", "now_s")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._num_entered = 0
        self.now_s = 0.0
        self.ends_at_s = math.inf
        """Nothing later than this happens."""
        self.is_done = False
        """Set by an action after which nothing else matters."""

    def enter(self, at_s: float, action: Action, subject: object) -> None:
        """Have `action(at_s, subject)` called when that instant comes."""
        self._num_entered += 1
        heappush(self._heap, (at_s, self._num_entered, action, subject))

    def run(self) -> None:
        """Act until nothing is left, time is up or somebody says so."""
        heap = self._heap
        while heap and not self.is_done:
            at_s, _, action, subject = heappop(heap)
            if at_s > self.ends_at_s:
                self.now_s = self.ends_at_s
                return
            self.now_s = at_s
            action(at_s, subject)
