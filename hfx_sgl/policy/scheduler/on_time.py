"""Whom to keep on time when not all can be: the fewest late jobs on one machine."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

K = TypeVar("K")


class Job(NamedTuple):
    """Something that takes time and has a deadline."""

    deadline_s: float
    service_s: float
    weight: float = 1.0
    """How much it counts to keep it."""


def on_time(jobs: Iterable[tuple[K, Job]], start_s: float, speed: float) -> Iterator[K]:
    """Yield those to keep, in order of deadline: as many as can be on time.

    J. M. Moore, "An n job, one machine sequencing algorithm for minimizing the number of late
    jobs", Management Science 15 (1968): go through the jobs in order of deadline; whenever one
    would be late, give up the longest so far; with weights the one that takes longest for its
    weight, which is a heuristic then.

    Args:
        jobs: in order of deadline.
        start_s: when the machine is free.
        speed: how much service it gives per second; several workers are one fast machine.
    """
    jobs = list(jobs)
    end_s = start_s
    for _, (deadline_s, service_s, _) in jobs:
        end_s += service_s / speed
        if end_s > deadline_s:
            return _fewest_late(jobs, start_s, speed)
    return (key for key, _ in jobs)


def _fewest_late(jobs: Sequence[tuple[K, Job]], start_s: float, speed: float) -> Iterator[K]:
    kept: list[K | None] = []
    longest: list[tuple[float, int, float]] = []
    end_s = start_s
    for key, (deadline_s, service_s, weight) in jobs:
        heapq.heappush(longest, (-service_s / weight, len(kept), service_s))
        kept.append(key)
        end_s += service_s / speed
        if end_s > deadline_s:
            _, position, given_up_s = heapq.heappop(longest)
            end_s -= given_up_s / speed
            kept[position] = None
    return (key for key in kept if key is not None)
