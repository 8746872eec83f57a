"""A workload: several sources of requests, merged in order of arrival."""

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.synthetic.sessions import session_requests
from hfx_sgl.workload.synthetic.single import single_requests
from hfx_sgl.workload.synthetic.task_class import TaskClass


class Source(Protocol):
    """Requests of one class."""

    @property
    def class_name(self) -> str:
        """Which class they are of."""
        ...

    @property
    def slo(self) -> Slo:
        """What each of them is promised."""
        ...

    @property
    def rate_per_s(self) -> float:
        """Mean arrivals per second at load factor 1."""
        ...

    @property
    def is_endless(self) -> bool:
        """Whether it goes on for as long as one asks."""
        ...

    def requests(self, *, seed: int, load_factor: float) -> Iterator[PlannedRequest]:
        """Yield its requests in order of arrival; `request_id` is unique in the workload."""
        ...


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """A source that is drawn."""

    task: TaskClass
    is_endless: bool = True

    @property
    def class_name(self) -> str:
        """The class's name."""
        return self.task.name

    @property
    def slo(self) -> Slo:
        """What the class is promised."""
        return self.task.slo

    @property
    def rate_per_s(self) -> float:
        """The class's rate."""
        return self.task.rate_per_s

    def requests(self, *, seed: int, load_factor: float) -> Iterator[PlannedRequest]:
        """Yield requests without an end."""
        if self.task.sessions is None:
            return single_requests(self.task, seed=seed, load_factor=load_factor)
        return session_requests(self.task, self.task.sessions, seed=seed, load_factor=load_factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is asked of a cluster."""

    name: str
    description: str
    sources: tuple[Source, ...]
    slo_set: str
    """Name or path of the SLO set that the sources' promises come from; `none` without one."""

    @property
    def rate_per_s(self) -> float:
        """Mean arrivals per second at load factor 1, of all sources."""
        return sum(source.rate_per_s for source in self.sources)

    @property
    def is_endless(self) -> bool:
        """Whether a plan needs a duration or a number of requests to end."""
        return any(source.is_endless for source in self.sources)

    def class_names(self) -> tuple[str, ...]:
        """Return the classes, in the order of their sources."""
        return tuple(dict.fromkeys(source.class_name for source in self.sources))

    def plan(
        self,
        *,
        seed: int,
        duration_s: float = math.inf,
        load_factor: float = 1.0,
        num_requests: int | None = None,
    ) -> Iterator[PlannedRequest]:
        """Yield the requests that arrive, in order of `at_s`, without holding them all.

        Equal arguments give equal requests. `load_factor` multiplies arrival rates: the same
        requests, closer together.

        Args:
            duration_s: only requests that arrive before it; `math.inf` for all of a trace.
            num_requests: at most so many; None does not limit them.

        Raises:
            ValueError: a bound is out of range, or nothing bounds a workload without an end.
        """
        if not load_factor > 0 or math.isinf(load_factor):
            raise ValueError(f"load_factor must be more than 0 and finite ({load_factor})")
        if not duration_s > 0:
            raise ValueError(f"duration_s must be more than 0 ({duration_s})")
        if num_requests is not None and num_requests < 1:
            raise ValueError(f"num_requests must be at least 1 ({num_requests})")
        if self.is_endless and math.isinf(duration_s) and num_requests is None:
            raise ValueError(f"workload {self.name} has no end: give duration_s or num_requests")
        streams = [source.requests(seed=seed, load_factor=load_factor) for source in self.sources]
        merged = heapq.merge(*streams, key=attrgetter("at_s"))
        bounded = itertools.takewhile(lambda request: request.at_s < duration_s, merged)
        return itertools.islice(bounded, num_requests)
