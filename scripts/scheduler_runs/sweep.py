"""The sweep over loads, and the loads at which round_robin breaks down."""

from collections.abc import Sequence
from dataclasses import dataclass

from baselines.shapes import POLICIES as BASELINES
from baselines.shapes import Shape
from scheduler_runs.cases import Case, Runner
from scheduler_runs.curve import first_load
from scheduler_runs.outcome import Outcome, pooled

from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import Run

POLICY = "hfx"
REFERENCE = "round_robin"
BROKEN_DOWN = 0.2
"""Attainment of the reference below which it counts as broken down."""
BEYOND_RATIO = 1.2
"""The second load to compare at, as a multiple of the first where the reference breaks down."""
SWEEP_FOLDER = "sweep"
_SEARCH_FOLDER = "breakdown"

Key = tuple[str, str, float]
"""Cluster, policy, load factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What is swept."""

    shapes: Sequence[Shape]
    load_factors: Sequence[float]
    max_baseline_load: float
    """Baselines are not run beyond."""
    seeds: Sequence[int]
    duration_s: float
    profile: str

    def cases(self, folder: str, shape: Shape, policy: str, load_factor: float) -> list[Case]:
        """Return one case for each seed."""
        return [
            Case(
                folder=folder,
                shape=shape,
                policy=policy,
                load_factor=load_factor,
                seed=seed,
                duration_s=self.duration_s,
                profile=self.profile,
            )
            for seed in self.seeds
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Where the reference breaks down."""

    load_factor: float
    """The lowest load, to a tenth, at which it attains less than `BROKEN_DOWN`."""
    beyond: float
    """`BEYOND_RATIO` times that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """All cells of the sweep."""

    outcomes: dict[Key, Outcome]
    """Also at the loads of the breakdown."""
    load_factors: tuple[float, ...]
    """Of the sweep alone."""
    breakdowns: dict[str, Breakdown]
    """By cluster; clusters in which the reference never breaks down are missing."""
    runs: list[Run]
    """Of the sweep and of the breakdown."""

    def curve(self, cluster: str, policy: str) -> list[tuple[float, Outcome]]:
        """Return the cells of a policy in order of load, those of the breakdown left out."""
        return [
            (load_factor, self.outcomes[cluster, policy, load_factor])
            for load_factor in self.load_factors
            if (cluster, policy, load_factor) in self.outcomes
        ]


def run_sweep(runner: Runner, plan: SweepPlan) -> SweepResult:
    """Run the sweep, then find the breakdown of the reference in each cluster and compare there."""
    cases = [
        case
        for shape in plan.shapes
        for policy in (POLICY, *BASELINES)
        for load_factor in plan.load_factors
        if policy == POLICY or load_factor <= plan.max_baseline_load
        for case in plan.cases(SWEEP_FOLDER, shape, policy, load_factor)
    ]
    runs = runner.run("sweep", cases)
    outcomes = _by_key(runs)
    breakdowns = {}
    for shape in plan.shapes:
        found = _find_breakdown(runner, plan, shape, outcomes)
        if found is None:
            continue
        breakdowns[shape.label] = found
        more = _compare_at(runner, plan, shape, found)
        outcomes |= _by_key(more)
        runs += more
    return SweepResult(
        outcomes=outcomes,
        load_factors=tuple(sorted(plan.load_factors)),
        breakdowns=breakdowns,
        runs=runs,
    )


def _find_breakdown(
    runner: Runner, plan: SweepPlan, shape: Shape, outcomes: dict[Key, Outcome]
) -> Breakdown | None:
    """Search between the last load of the sweep that the reference bears and the next."""
    low = 0.0
    for load_factor in sorted(plan.load_factors):
        outcome = outcomes.get((shape.label, REFERENCE, load_factor))
        if outcome is None:
            continue
        if outcome.attainment < BROKEN_DOWN:
            break
        low = load_factor
    else:
        return None

    def is_broken_down(load_factor: float) -> bool:
        cases = plan.cases(_SEARCH_FOLDER, shape, REFERENCE, load_factor)
        runs = runner.run(f"breakdown of {shape.label} at {load_factor:g}x", cases)
        return pooled(runs).attainment < BROKEN_DOWN

    found = first_load(is_broken_down, low, load_factor)
    return Breakdown(load_factor=found, beyond=round(BEYOND_RATIO * found, 2))


def _compare_at(runner: Runner, plan: SweepPlan, shape: Shape, breakdown: Breakdown) -> list[Run]:
    cases = [
        case
        for load_factor in (breakdown.load_factor, breakdown.beyond)
        for policy in (POLICY, REFERENCE)
        for case in plan.cases(_SEARCH_FOLDER, shape, policy, load_factor)
    ]
    return runner.run(f"breakdown of {shape.label}", cases)


def _by_key(runs: Sequence[Run]) -> dict[Key, Outcome]:
    cells: dict[Key, list[Run]] = {}
    for run in runs:
        info = run.info
        cells.setdefault((info.cluster, info.policy, info.load_factor), []).append(run)
    for key, found in cells.items():
        if len({run.info.seed for run in found}) != len(found):
            raise ConfigError(f"{found[0].path.parent}: two runs of one seed at {key}")
    return {key: pooled(found) for key, found in cells.items()}
