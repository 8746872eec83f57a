"""The same points by the simulator."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from baselines.emulated import LoadPoint
from baselines.shapes import Shape

from hfx_sgl.sim.job import JobResult, SimJob, run_job
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.sweep import SweepRun, run_sweep, sweep_runs
from hfx_sgl.workload.arguments import PlannedLoad
from hfx_sgl.workload.load import DEFAULT_WORKLOAD, load_workload

NUM_VARIANTS = 9
"""How often a point is simulated: with other random draws of the policy each time, and with"""
_LEAST_NETWORK_RATIO = 0.7
_MOST_NETWORK_RATIO = 1.3
"""network times between these multiples of the usual one. Close to saturation half a millisecond
can send a request elsewhere and change all that follows; the spread shows where that matters."""

OnDone = Callable[[SweepRun, JobResult], None]


def sweep(
    shapes: Sequence[Shape],
    *,
    policies: Sequence[str],
    load_factors: Sequence[float],
    seeds: Sequence[int],
    duration_s: float,
    profile: str,
    folder: Path,
    num_processes: int,
    on_done: OnDone,
) -> None:
    """Simulate the product, each run into a folder of its own below that of its cluster."""
    for shape in shapes:
        base = _job(shape, policies[0], load_factors[0], seeds[0], duration_s, profile)
        runs = sweep_runs(base, policies, load_factors, seeds)
        run_sweep(runs, folder / shape.label.lower(), num_processes=num_processes, on_done=on_done)


def run_simulated(point: LoadPoint, folder: Path) -> list[Path]:
    """Simulate the variants of one point; returns the run folders.

    Runs that are there already are left as they are.
    """
    job = _job(
        point.shape,
        point.policy,
        point.load_factor,
        point.seed,
        point.duration_s,
        point.profile,
    )
    folders = []
    for variant in range(NUM_VARIANTS):
        share = variant / (NUM_VARIANTS - 1)
        ratio = _LEAST_NETWORK_RATIO + share * (_MOST_NETWORK_RATIO - _LEAST_NETWORK_RATIO)
        folders.append(folder / f"variant{variant}")
        if not (folders[-1] / "run.json").exists():
            spec = replace(
                job.spec,
                seed=point.seed + variant,
                network_s=job.spec.network_s * ratio,
                sample_interval_s=None,  # the load test's samples suffice
            )
            run_job(replace(job, spec=spec), folders[-1])
    return folders


def _job(
    shape: Shape, policy: str, load_factor: float, seed: int, duration_s: float, profile: str
) -> SimJob:
    spec = SimSpec(
        profile=profile,
        num_workers=shape.num_workers,
        num_prefill=shape.num_prefill,
        num_decode=shape.num_decode,
        policy=policy,
        seed=seed,
    )
    load = PlannedLoad(
        workload=load_workload(DEFAULT_WORKLOAD),
        seed=seed,
        load_factor=load_factor,
        duration_s=duration_s,
        num_requests=None,
    )
    return SimJob(spec=spec, load=load)
