"""Requests that wait for a worker: those that can still be on time, and the others."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from hfx_sgl.policy.scheduler.by_deadline import ByDeadline
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.hits import Hits


class WaitingQueue:
    """Feasible requests in order of deadline; infeasible ones apart, shortest first."""

    def __init__(self, hits: Hits) -> None:
        self.hits = hits
        """Those of the feasible ones whose prefix saves much. To be read only."""
        self._feasible = ByDeadline()
        self._free = ByDeadline()
        """Those of them whose prefix nobody had when they came."""
        self._services_s: dict[int, float] = {}
        """By sequence: what each of them adds to the backlog."""
        self.backlog_s = 0.0
        """Prefill time of the feasible requests."""
        self._demoted: dict[int, tuple[float, Entry]] = {}
        """By sequence, with the service time by which it is sorted."""
        self._shortest: list[tuple[float, int]] = []
        """Service times and sequences of the demoted, sorted."""
        self._oldest: list[int] = []
        """Their sequences, sorted."""

    def __len__(self) -> int:
        return len(self._feasible.entries) + len(self._demoted)

    @property
    def feasible(self) -> Sequence[Entry]:
        """Those that were not found to be infeasible, in order of deadline. To be read only."""
        return self._feasible.entries

    @property
    def are_all_free(self) -> bool:
        """Whether nobody had the prefix of any feasible one when it came."""
        return len(self._free.entries) == len(self._feasible.entries)

    @property
    def first_deadline_s(self) -> float:
        """The earliest deadline of those; `math.inf`: there are none."""
        feasible = self._feasible.entries
        return feasible[0].deadline_s if feasible else math.inf

    @property
    def num_demoted(self) -> int:
        """How many can no longer be on time."""
        return len(self._demoted)

    def add(self, entry: Entry) -> None:
        """Put a request in its place among the feasible ones."""
        self._feasible.add(entry)
        if entry.home_id is None:
            self._free.add(entry)
        self.hits.add(entry)
        self._services_s[entry.sequence] = entry.service_s
        self.backlog_s += entry.service_s

    def urgent(
        self,
        num_entries: int,
        now_s: float,
        look_again: Callable[[Entry], None],
        *,
        is_new: bool = False,
    ) -> tuple[list[Entry], list[Entry]]:
        """Return the most urgent feasible requests, and those that this found to be infeasible.

        The latter are demoted.

        `look_again` is called for each before it is demoted, with `is_new` for all: it may find
        that service times have changed.
        """
        found = self._feasible.entries[:num_entries]
        if not is_new and _are_on_time(found, now_s):
            return found, []
        found = []
        late: list[Entry] = []
        for entry in self._feasible.entries:
            if is_new:
                look_again(entry)
            if now_s + entry.service_s > entry.deadline_s:
                look_again(entry)
                if not entry.is_feasible(now_s):
                    late.append(entry)
                    continue
            found.append(entry)
            if len(found) == num_entries:
                break
        for entry in late:
            self.demote(entry)
        return found, late

    def demote(self, entry: Entry) -> None:
        """A feasible request can no longer be on time."""
        self._remove_feasible(entry)
        self._demoted[entry.sequence] = entry.service_s, entry
        insort(self._shortest, (entry.service_s, entry.sequence))
        insort(self._oldest, entry.sequence)

    def first_free(self, num_entries: int) -> list[Entry]:
        """Return the most urgent feasible ones whose prefix nobody had when they came."""
        return self._free.entries[:num_entries]

    def oldest_demoted(self) -> Entry | None:
        """Return the infeasible one that came first."""
        return self._demoted[self._oldest[0]][1] if self._oldest else None

    def shortest_demoted(self, num_entries: int) -> list[Entry]:
        """Return the infeasible ones that took the least time when they were demoted."""
        demoted = self._demoted
        return [demoted[sequence][1] for _, sequence in self._shortest[:num_entries]]

    def remove(self, entry: Entry) -> None:
        """Take a request out.

        Raises:
            KeyError: it is not here.
        """
        if self._remove_feasible(entry):
            return
        service_s, found = self._demoted.get(entry.sequence, (0.0, None))
        if found is not entry:
            raise KeyError(entry.facts.request_id)
        del self._demoted[entry.sequence]
        del self._shortest[bisect_left(self._shortest, (service_s, entry.sequence))]
        del self._oldest[bisect_left(self._oldest, entry.sequence)]

    def _remove_feasible(self, entry: Entry) -> bool:
        service_s = self._services_s.pop(entry.sequence, None)
        if service_s is None:
            return False
        self._feasible.discard(entry)
        self._free.discard(entry)
        self.hits.discard(entry)
        # No rounding errors are carried on for ever.
        self.backlog_s = self.backlog_s - service_s if self._feasible.entries else 0.0
        return True


def _are_on_time(entries: Sequence[Entry], now_s: float) -> bool:
    """Return whether all would be if their best workers began now."""
    for entry in entries:  # noqa: SIM110 - a generator takes twice as long
        if now_s + entry.service_s > entry.deadline_s:
            return False
    return True
