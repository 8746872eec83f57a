"""The prefix caches of a pool, taken as one: what can be hit, and what has to be computed."""

from dataclasses import dataclass

import numpy as np
from clairvoyant.jobs import Jobs
from clairvoyant.pool import Work
from clairvoyant.prefixes import SharedPart
from clairvoyant.program import Columns, Program

_GRID_S = 2.0
"""The room in the cache is looked at so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """Requests of a part whose windows overlap one another, in order of arrival."""

    members: list[int]
    begin_s: float
    end_s: float


class Cache:
    """Adds to a program who computes what is shared.

    Whoever is kept finds a part in the cache, or computes it, or another in the cache does so. A
    part lasts from one cluster of requests to the next only if it takes up room all that time, or
    if a request that is not kept computes it in between.
    """

    def __init__(self, program: Program, jobs: Jobs, kept: Columns, capacity_tokens: int) -> None:
        self._program = program
        self._jobs = jobs
        self._kept = kept
        self._capacity_tokens = capacity_tokens
        self._columns: list[Columns] = []
        self._release_s: list[float] = []
        self._due_s: list[float] = []
        self._seconds: list[float] = []
        self._held: list[tuple[int, int, float, float]] = []
        for part in jobs.shared.parts:
            self._add_part(part)
        self._bound_room()

    @property
    def works(self) -> list[Work]:
        """What computing shared parts takes of the pool."""
        if not self._columns:
            return []
        return [
            Work(
                columns=np.concatenate(self._columns),
                release_s=np.array(self._release_s),
                due_s=np.array(self._due_s),
                seconds=np.array(self._seconds),
            )
        ]

    def _add_part(self, part: SharedPart) -> None:
        clusters = _clusters(part, self._jobs)
        num = len(clusters)
        program = self._program
        part_s = part.num_tokens * float(self._jobs.per_miss_s[part.members].min())
        computed = program.add_columns([0.0] * num, [0.0] * num, [1.0] * num)
        late = program.add_columns([0.0] * num, [0.0] * num, [1.0] * num)
        held = program.add_columns([0.0] * num, [0.0] * num, [0.0] + [1.0] * (num - 1))
        for i, cluster in enumerate(clusters):
            there = [computed[i], late[i], held[i]]
            for member in cluster.members:
                program.add_row([*there, self._kept[member]], [1.0, 1.0, 1.0, -1.0], lower=0.0)
            if i:
                before = [computed[i - 1], late[i - 1], held[i - 1]]
                program.add_row([*before, held[i]], [1.0, 1.0, 1.0, -1.0], lower=0.0)
                gap = (clusters[i - 1].end_s, cluster.begin_s)
                self._held.append((int(held[i]), part.num_tokens, *gap))
            self._columns += [computed[i : i + 1], late[i : i + 1]]
            self._release_s += [cluster.begin_s, clusters[0].begin_s]
            self._due_s += [cluster.end_s, cluster.end_s]
            self._seconds += [part_s, part_s]
        self._bound_late(clusters, late)

    def _bound_late(self, clusters: list[_Cluster], late: Columns) -> None:
        """Let a request compute a part for others only once, and only if it is not kept.

        `unused` counts those given up so far that have not; nobody is kept by being given up.
        """
        program = self._program
        num = len(clusters)
        unused = program.add_columns([0.0] * num, [0.0] * num, [np.inf] * num)
        for i, cluster in enumerate(clusters):
            mine = self._kept[cluster.members]
            before = [unused[i - 1]] if i else []
            given_up = float(len(mine))
            program.add_row(
                [unused[i], late[i], *mine, *before],
                [1.0, 1.0, *(1.0 for _ in mine), *(-1.0 for _ in before)],
                lower=given_up,
                upper=given_up,
            )
            if len(mine) == 1:
                coefficients = [1.0, *(-1.0 for _ in before)]
                program.add_row([late[i], *before], coefficients, upper=0.0)

    def _bound_room(self) -> None:
        if not self._held:
            return
        columns, tokens, begins_s, ends_s = (
            np.array(each) for each in zip(*self._held, strict=True)
        )
        for at_s in np.arange(0.0, float(ends_s.max()), _GRID_S):
            inside = (begins_s < at_s) & (ends_s > at_s)
            if tokens[inside].sum() > self._capacity_tokens:
                share = tokens[inside] / self._capacity_tokens
                self._program.add_row(columns[inside], share, upper=1.0)


def _clusters(part: SharedPart, jobs: Jobs) -> list[_Cluster]:
    clusters: list[_Cluster] = []
    for member in part.members:
        release_s = float(jobs.release_s[member])
        due_s = float(jobs.prefilled_by_s[member])
        last = clusters[-1] if clusters else None
        if last is not None and release_s <= last.end_s:
            last.members.append(member)
            clusters[-1] = _Cluster(
                members=last.members, begin_s=last.begin_s, end_s=max(last.end_s, due_s)
            )
        else:
            clusters.append(_Cluster(members=[member], begin_s=release_s, end_s=due_s))
    return clusters
