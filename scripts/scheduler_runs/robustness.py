"""Runs the scheduler and the baselines under each condition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from baselines.shapes import POLICIES as BASELINES
from baselines.shapes import Shape
from scheduler_runs.cases import Case, Runner
from scheduler_runs.conditions import CONDITIONS, Condition, World
from scheduler_runs.outcome import Outcome, pooled
from scheduler_runs.sweep import POLICY

from hfx_sgl.engine.profile import load_profile
from hfx_sgl.policy.latency.snapshot import LatencySnapshot
from hfx_sgl.results.reader import Run
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.slo_router import SloRouter
from hfx_sgl.sim.worker import make_workers

_FIT_LOAD_FACTOR = 4.0
_FIT_SEED = 0
_FIT_DURATION_S = 120.0
"""What the models of the usual cluster are fitted on: a load that it bears, for two minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessPlan:
    """Where the conditions are tried."""

    shapes: Sequence[Shape]
    load_factors: Sequence[float]
    """In the usual world; see `World.load_ratio`."""
    seeds: Sequence[int]
    duration_s: float
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The scheduler beside the baselines, in one cluster at one load."""

    cluster: str
    condition: Condition
    load_factor: float
    """In the usual world."""
    own: Outcome
    baselines: dict[str, Outcome]

    @property
    def best_baseline(self) -> str:
        """Which of them attains most."""
        return max(self.baselines, key=lambda name: self.baselines[name].attainment)

    @property
    def lead(self) -> float:
        """How much more is attained than by the best baseline."""
        return self.own.attainment - self.baselines[self.best_baseline].attainment

    @property
    def worst_class_lead(self) -> float:
        """The same of the class that attains least with each, the best baseline chosen by it."""
        return self.own.worst_class[1] - max(
            outcome.worst_class[1] for outcome in self.baselines.values()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessResult:
    """All cells, in order of the plan."""

    cells: list[Cell]
    load_factors: tuple[float, ...]
    runs: list[Run]


def run_robustness(runner: Runner, plan: RobustnessPlan) -> RobustnessResult:
    """Run every condition in every cluster at every load."""
    rows = [
        (shape, condition, load_factor, usual)
        for shape in plan.shapes
        for usual in [fit_usual(shape, plan.profile)]
        for condition in CONDITIONS
        if condition.world.has(shape)
        for load_factor in plan.load_factors
    ]
    own_cases: list[list[Case]] = []
    baseline_cases: list[dict[str, list[Case]]] = []
    for shape, condition, load_factor, usual in rows:
        own_cases.append(_own_cases(plan, shape, condition, load_factor, usual))
        baseline_cases.append(
            {
                name: _world_cases(plan, shape, condition.world, name, load_factor)
                for name in BASELINES
            }
        )
    everything = [case for cases in own_cases for case in cases]
    everything += [case for cell in baseline_cases for cases in cell.values() for case in cases]
    runs = runner.run("robustness", everything)
    run_of = {case.name: run for case, run in zip(everything, runs, strict=True)}
    cells = [
        Cell(
            cluster=shape.label,
            condition=condition,
            load_factor=load_factor,
            own=pooled(run_of[case.name] for case in own),
            baselines={
                name: pooled(run_of[case.name] for case in cases) for name, cases in others.items()
            },
        )
        for (shape, condition, load_factor, _), own, others in zip(
            rows, own_cases, baseline_cases, strict=True
        )
    ]
    return RobustnessResult(
        cells=cells, load_factors=tuple(sorted(plan.load_factors)), runs=list(run_of.values())
    )


def fit_usual(shape: Shape, profile: str) -> LatencySnapshot:
    """Return the latency models that the scheduler has learnt in the usual cluster."""
    case = Case(
        folder="",
        shape=shape,
        policy=POLICY,
        load_factor=_FIT_LOAD_FACTOR,
        seed=_FIT_SEED,
        duration_s=_FIT_DURATION_S,
        profile=profile,
        changes={"sample_interval_s": None},
    )
    job = case.job
    pools = make_workers(job.spec, load_profile(profile))
    router = SloRouter(pools, job.spec.scheduler)
    Simulation(job.spec, pools, router, job.load.requests, MemorySink()).run()
    return router.learnt


def _own_cases(
    plan: RobustnessPlan,
    shape: Shape,
    condition: Condition,
    load_factor: float,
    usual: LatencySnapshot,
) -> list[Case]:
    changes = {"knowledge": condition.knowledge_with(usual)}
    folder = f"robustness/{condition.name.replace(', ', '-').replace(' ', '-')}"
    return _cases(plan, shape, condition.world, POLICY, load_factor, folder, changes)


def _world_cases(
    plan: RobustnessPlan, shape: Shape, world: World, policy: str, load_factor: float
) -> list[Case]:
    """Return the cases of a baseline: the same for all that only the scheduler can notice."""
    folder = f"robustness/baselines-{world.name}"
    return _cases(plan, shape, world, policy, load_factor, folder, {})


def _cases(
    plan: RobustnessPlan,
    shape: Shape,
    world: World,
    policy: str,
    load_factor: float,
    folder: str,
    changes: dict[str, Any],
) -> list[Case]:
    return [
        Case(
            folder=folder,
            shape=shape,
            policy=policy,
            load_factor=world.load_ratio * load_factor,
            seed=seed,
            duration_s=plan.duration_s,
            profile=plan.profile,
            workload=world.workload,
            changes={"sample_interval_s": None, **world.changes(plan.profile), **changes},
        )
        for seed in plan.seeds
    ]
