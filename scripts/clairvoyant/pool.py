"""What a pool of workers has to do in which windows, and the intervals that ask too much of it."""

from dataclasses import dataclass

import numpy as np
from clairvoyant.program import Columns, Floats, Program

_NUM_BEGINS = 600
"""Intervals are looked for from so many releases, evenly taken."""
_MAX_CUTS = 40
"""Rows added in one round."""
_APART_S = 0.25
"""Two intervals of a round differ by so much at one end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Work of `seconds` for each unit of a column, all of it between two instants."""

    columns: Columns
    release_s: Floats
    due_s: Floats
    seconds: Floats


class Pool:
    """Equal workers taken as one that is as fast as all of them and may switch at any instant.

    What has to lie within an interval cannot be more than what the pool can do in it.

    Args:
        spare_s: what may be left undone at the end of any interval.
    """

    def __init__(self, num_workers: int, works: list[Work], spare_s: float = 0.0) -> None:
        self._num_workers = num_workers
        self._spare_s = spare_s
        self._columns = np.concatenate([work.columns for work in works])
        self._release_s = np.concatenate([work.release_s for work in works])
        self._due_s = np.concatenate([work.due_s for work in works])
        self._seconds = np.concatenate([work.seconds for work in works])
        order = np.argsort(self._due_s, kind="stable")
        for name in ("_columns", "_release_s", "_due_s", "_seconds"):
            setattr(self, name, getattr(self, name)[order])
        releases = np.unique(self._release_s)
        every = max(1, len(releases) // _NUM_BEGINS)
        self._begins_s = [releases[i::every] for i in range(every)]
        self._round = 0

    def cut(self, program: Program, values: Floats, tolerance_s: float) -> int:
        """Add rows for intervals that ask too much at `values`; return how many."""
        num_added = 0
        taken: list[tuple[float, float]] = []
        for excess_s, begin_s, end_s in self._excesses(values):
            if excess_s <= tolerance_s or num_added == _MAX_CUTS:
                break
            if any(abs(begin_s - b) < _APART_S and abs(end_s - e) < _APART_S for b, e in taken):
                continue
            taken.append((begin_s, end_s))
            self._add(program, begin_s, end_s)
            num_added += 1
        return num_added

    def _excesses(self, values: Floats) -> list[tuple[float, float, float]]:
        """Return the worst interval from each begin, as (excess, begin, end), the worst first."""
        load_s = self._seconds * values[self._columns]
        begins_s = self._begins_s[self._round % len(self._begins_s)]
        self._round += 1
        found = []
        for begin_s in begins_s:
            inside = self._release_s >= begin_s
            due_s = self._due_s[inside]
            excess_s = np.cumsum(load_s[inside]) - self._num_workers * (due_s - begin_s)
            worst = int(np.argmax(excess_s))
            found.append(
                (float(excess_s[worst]) - self._spare_s, float(begin_s), float(due_s[worst]))
            )
        found.sort(reverse=True)
        return found

    def _add(self, program: Program, begin_s: float, end_s: float) -> None:
        inside = (self._release_s >= begin_s) & (self._due_s <= end_s) & (self._seconds > 0)
        columns, places = np.unique(self._columns[inside], return_inverse=True)
        seconds = np.bincount(places, weights=self._seconds[inside])
        most_s = self._num_workers * (end_s - begin_s) + self._spare_s
        program.add_row(columns, seconds, upper=most_s)
