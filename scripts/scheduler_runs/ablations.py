"""The scheduler without each of its parts: what a part is worth, and what does not pay."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from baselines.shapes import Shape
from scheduler_runs.cases import Case, Runner
from scheduler_runs.outcome import Outcome, pooled
from scheduler_runs.sweep import POLICY

from hfx_sgl.results.reader import Run
from hfx_sgl.sim.scheduler_settings import scheduler_config

FULL = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """One row: the scheduler with some settings that switch a part off."""

    name: str
    settings: tuple[str, ...] = ()
    """As `hfx-sim --scheduler-set` takes them."""
    text: str

    @property
    def folder(self) -> str:
        """The folder of its runs."""
        return f"ablations/{self.name.replace(' ', '-')}"


ABLATIONS = (
    Ablation(name=FULL, text="the defaults"),
    Ablation(
        name="no late binding",
        settings=("lookahead_s=1e6",),
        text="workers get requests as they arrive",
    ),
    Ablation(
        name="first come",
        settings=("order=arrival", "hit_gain=1e9", "demoted_share=0"),
        text="the order is that of arrivals; workers are still chosen",
    ),
    Ablation(
        name="earliest deadline",
        settings=("order=deadline",),
        text="by deadline, who is late goes last; nobody is given up for others",
    ),
    Ablation(
        name="no decode feasibility",
        settings=("guards_tpot=false", "min_prefill_share=1"),
        text="no request is held back for the TPOT of those that run, and prefills are not paced",
    ),
    Ablation(
        name="no cached first",
        settings=("hit_gain=1e9",),
        text="prefixes choose the worker, and nobody goes before more urgent ones for his",
    ),
    Ablation(
        name="residual quantile",
        settings=("prefill_caution=1", "step_caution=1"),
        text="with it: promises are judged by the slowest tenth of steps, not by the mean",
    ),
    Ablation(
        name="no fairness",
        settings=("fairness=0",),
        text="whom to give up is chosen by prefill time alone",
    ),
    Ablation(
        name="no prefix awareness",
        settings=("cache_share=0",),
        text="nothing is remembered of what workers have cached",
    ),
    Ablation(
        name="no ageing",
        settings=("demoted_share=0",),
        text="late requests wait until nobody can be on time",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPlan:
    """Where parts are switched off."""

    shapes: Sequence[Shape]
    load_factors: Sequence[float]
    seeds: Sequence[int]
    duration_s: float
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationResult:
    """All cells."""

    outcomes: dict[tuple[str, str, float], Outcome]
    """By cluster, name of the ablation and load."""
    load_factors: tuple[float, ...]
    runs: list[Run]

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters, in the order in which they were run."""
        return tuple(dict.fromkeys(cluster for cluster, _, _ in self.outcomes))


def run_ablations(runner: Runner, plan: AblationPlan) -> AblationResult:
    """Run the scheduler with and without each part."""
    points = list(product(plan.shapes, ABLATIONS, plan.load_factors))
    cases = [_cases(plan, *point) for point in points]
    runs = runner.run("ablations", [case for cell in cases for case in cell])
    num_seeds = len(plan.seeds)
    outcomes = {
        (shape.label, ablation.name, load_factor): pooled(
            runs[index * num_seeds : (index + 1) * num_seeds]
        )
        for index, (shape, ablation, load_factor) in enumerate(points)
    }
    return AblationResult(
        outcomes=outcomes, load_factors=tuple(sorted(plan.load_factors)), runs=runs
    )


def _cases(plan: AblationPlan, shape: Shape, ablation: Ablation, load_factor: float) -> list[Case]:
    changes: dict[str, Any] = {
        "scheduler": scheduler_config(ablation.settings),
        "sample_interval_s": None,
    }
    return [
        Case(
            folder=ablation.folder,
            shape=shape,
            policy=POLICY,
            load_factor=load_factor,
            seed=seed,
            duration_s=plan.duration_s,
            profile=plan.profile,
            changes=changes,
        )
        for seed in plan.seeds
    ]
