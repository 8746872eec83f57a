"""Prompts that a prefill worker has passed over: later ones are computed there, they are not.

For a moment that is nothing, since steps and transfers overtake each other. For longer it most
likely means that the hand-off has got lost: SGLang's prefill server computes a prompt only when it
has heard from the decode server, and what it does not hear it waits for, by default for 300 s.
"""

import math
from collections import deque

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.worker_state import WorkerState


class PassedOver:
    """Remembers them in the order in which they were passed over."""

    def __init__(self, passed_over_s: float) -> None:
        self._passed_over_s = passed_over_s
        self._noted: deque[tuple[float, Entry, WorkerState]] = deque()
        """Since when, who, and by which worker; some of them computed since."""

    def computed(self, entry: Entry, state: WorkerState, now_s: float) -> None:
        """A worker has computed a prompt, which is still among its prompts."""
        for other in state.prompts.values():
            if other.sent_at_s >= entry.sent_at_s:
                return
            if other.passed_over_at_s is None:
                other.passed_over_at_s = now_s
                self._noted.append((now_s, other, state))

    @property
    def next_s(self) -> float:
        """When the next one will have waited long enough; `math.inf`: none will."""
        noted = self._noted
        while noted:
            at_s, entry, state = noted[0]
            is_there = state.prompts.get(entry.facts.request_id) is entry
            if is_there and entry.passed_over_at_s == at_s:
                return at_s + self._passed_over_s
            noted.popleft()
        return math.inf

    def take(self, now_s: float) -> list[tuple[Entry, WorkerState]]:
        """Return those that have waited long enough, each once, and where they are."""
        taken = []
        while self.next_s <= now_s:
            _, entry, state = self._noted.popleft()
            taken.append((entry, state))
        return taken
