"""Whom to keep on time when not all can be: the fewest late jobs on one machine."""

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

K = TypeVar("K")


class Job(NamedTuple):
    """Something that takes time and has a deadline."""

    deadline_s: float
    service_s: float


def on_time(jobs: Iterable[tuple[K, Job]], start_s: float, speed: float) -> Iterator[K]:
    """Yield those to keep, in order of deadline: as many as can be on time.

    J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the number of late
    jobs", Management Science 15 (1968): go through the jobs in order of deadline; whenever one
    would be late, give up the longest so far.

    Args:
        jobs: in order of deadline.
        start_s: when the machine is free.
        speed: how much service it gives per second; several workers are one fast machine.
    """
    kept: list[K | None] = []
    longest: list[tuple[float, int]] = []
    end_s = start_s
    for key, job in jobs:
        heapq.heappush(longest, (-job.service_s, len(kept)))
        kept.append(key)
        end_s += job.service_s / speed
        if end_s > job.deadline_s:
            negative_s, position = heapq.heappop(longest)
            end_s += negative_s / speed
            kept[position] = None
    return (key for key in kept if key is not None)
