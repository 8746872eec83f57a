"""Runs one simulation in this process: builds the cluster, runs it, says what came of it."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hfx_sgl.engine.profile import EngineProfile, load_profile
from hfx_sgl.errors import ConfigError
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.run import WorkerSample
from hfx_sgl.sim.routing import check_policies, make_router
from hfx_sgl.sim.simulation import Progress, Simulation
from hfx_sgl.sim.sink import MemorySink, Sink
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import make_workers
from hfx_sgl.workload.planned import PlannedRequest

_GC_THRESHOLD = 200_000
"""Objects between two looks of the garbage collector. A simulation leaves no cycles behind, and
Python's 700 cost it a seventh of its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimTotals:
    """What a simulation says besides its records."""

    num_requests: int
    duration_s: float
    """When the last request arrived."""
    ended_at_s: float
    num_extrapolated: int
    """Step times that lay outside the profile's measured range."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What a reader of the result has to know."""
        if not self.num_extrapolated:
            return ()
        return (
            f"{self.num_extrapolated} step times lay outside the measured range of the profile "
            "and were extrapolated",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimResult:
    """A simulation with everything that happened in it."""

    totals: SimTotals
    records: tuple[RequestRecord, ...]
    """One per arrival, in order of arrival."""
    samples: tuple[WorkerSample, ...]


def simulate(
    spec: SimSpec,
    requests: Iterable[PlannedRequest],
    *,
    profile: EngineProfile | None = None,
) -> SimResult:
    """Run a simulation and keep everything in memory.

    Args:
        requests: in order of arrival.
        profile: the profile that `spec` names, when the caller has it already.

    Raises:
        ConfigError: the profile, a policy or an engine setting cannot be used, or a request can
            never be served by such engines.
    """
    sink = MemorySink()
    totals = simulate_into(sink, spec, requests, profile=profile)
    return SimResult(totals=totals, records=sink.records, samples=tuple(sink.samples))


def simulate_into(
    sink: Sink,
    spec: SimSpec,
    requests: Iterable[PlannedRequest],
    *,
    profile: EngineProfile | None = None,
    progress: Progress = lambda num_ended, now_s: None,
) -> SimTotals:
    """Run a simulation and hand what happens to `sink`; see `simulate`."""
    profile = profile or load_profile(spec.profile)
    check_policies(spec)
    others = load_worker_profiles(spec)
    profiles = [profile, *{id(other): other for other in others}.values()]
    pools = make_workers(spec, profile, others)
    num_extrapolated = _num_extrapolated(profiles)
    simulation = Simulation(
        spec,
        pools,
        make_router(spec, pools),
        fitting(requests, spec, profiles),
        sink,
        progress,
    )
    with _rare_collections():
        simulation.run()
    return SimTotals(
        num_requests=simulation.num_arrived,
        duration_s=simulation.last_arrival_s,
        ended_at_s=simulation.now_s,
        num_extrapolated=_num_extrapolated(profiles) - num_extrapolated,
    )


def load_worker_profiles(spec: SimSpec) -> list[EngineProfile]:
    """Return the profiles of the workers that have one of their own; one object for each name.

    Raises:
        ConfigError: no such profile, or it is bad.
    """
    loaded = {name: load_profile(name) for name in dict.fromkeys(spec.worker_profiles)}
    return [loaded[name] for name in spec.worker_profiles]


def _num_extrapolated(profiles: Iterable[EngineProfile]) -> int:
    return sum(profile.step_times.num_extrapolated for profile in profiles)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Have the garbage collector look seldom, for as long as this lasts."""
    before = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def fitting(
    requests: Iterable[PlannedRequest], spec: SimSpec, profiles: Sequence[EngineProfile]
) -> Iterator[PlannedRequest]:
    """Pass on `requests`; raise ConfigError at one that the engines' context cannot hold."""
    role = next(iter(spec.num_of))
    max_context_tokens = min(
        profile.make_spec(role, **spec.engine).max_context_tokens for profile in profiles
    )
    for planned in requests:
        num_tokens = planned.prompt.num_tokens + planned.max_output_tokens
        if num_tokens > max_context_tokens:
            raise ConfigError(
                f"--context-length: request {planned.request_id} of class {planned.class_name} "
                f"may take {num_tokens} tokens (prompt {planned.prompt.num_tokens}, output up to "
                f"{planned.max_output_tokens}), more than the {max_context_tokens} of the "
                "engines' context; --max-prompt-tokens bounds prompts"
            )
        yield planned
