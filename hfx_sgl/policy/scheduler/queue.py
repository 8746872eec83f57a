"""Requests that wait for a worker: those that can still be on time, and the others."""

from bisect import bisect_left, insort
from operator import attrgetter

from hfx_sgl.policy.scheduler.entry import Entry

_KEY = attrgetter("key")


class WaitingQueue:
    """Feasible requests in order of deadline; infeasible ones apart, shortest first."""

    def __init__(self) -> None:
        self._feasible: list[Entry] = []
        self._demoted: dict[int, tuple[float, Entry]] = {}
        """By sequence, with the service time by which it is sorted."""
        self._shortest: list[tuple[float, int]] = []
        """Service times and sequences of the demoted, sorted."""
        self._oldest: list[int] = []
        """Their sequences, sorted."""

    def __len__(self) -> int:
        return len(self._feasible) + len(self._demoted)

    @property
    def num_demoted(self) -> int:
        """How many can no longer be on time."""
        return len(self._demoted)

    def add(self, entry: Entry) -> None:
        """Put a request in its place among the feasible ones."""
        insort(self._feasible, entry, key=_KEY)

    def urgent(self, num_entries: int, now_s: float) -> list[Entry]:
        """Return the most urgent feasible requests; those found to be infeasible are demoted."""
        while True:
            found = self._feasible[:num_entries]
            late = [entry for entry in found if not entry.is_feasible(now_s)]
            if not late:
                return found
            for entry in late:
                self._remove_feasible(entry)
                self._demote(entry)

    def oldest_demoted(self) -> Entry | None:
        """Return the infeasible one that came first."""
        return self._demoted[self._oldest[0]][1] if self._oldest else None

    def shortest_demoted(self) -> Entry | None:
        """Return the infeasible one that took the least time when it was demoted."""
        return self._demoted[self._shortest[0][1]][1] if self._shortest else None

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
        position = bisect_left(self._feasible, entry.key, key=_KEY)
        if position < len(self._feasible) and self._feasible[position] is entry:
            del self._feasible[position]
            return True
        return False

    def _demote(self, entry: Entry) -> None:
        self._demoted[entry.sequence] = entry.service_s, entry
        insort(self._shortest, (entry.service_s, entry.sequence))
        insort(self._oldest, entry.sequence)
