"""Many simulations at once: every policy at every load with every seed, each in a process."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from hfx_sgl.sim.job import JobResult, SimJob, run_job


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRun:
    """One job and the name of its folder."""

    name: str
    job: SimJob


def sweep_runs(
    base: SimJob, policies: Sequence[str], load_factors: Sequence[float], seeds: Sequence[int]
) -> tuple[SweepRun, ...]:
    """Return the product. A policy of `base` for one role alone stays as it is."""
    return tuple(
        SweepRun(
            name=f"{policy}_{load_factor:g}x_seed{seed}",
            job=replace(
                base,
                spec=replace(base.spec, policy=policy, seed=seed),
                load=replace(base.load, load_factor=load_factor, seed=seed),
            ),
        )
        for policy, load_factor, seed in product(policies, load_factors, seeds)
    )


def run_sweep(
    runs: Sequence[SweepRun],
    folder: Path,
    *,
    num_processes: int,
    on_done: Callable[[SweepRun, JobResult], None] = lambda run, result: None,
) -> list[JobResult]:
    """Run all of `runs`, each into a folder of its name in `folder`; results in the same order.

    Args:
        on_done: told of each run as it ends.

    Raises:
        ConfigError: of the first run that failed; those not begun are given up.
    """
    results: dict[str, JobResult] = {}
    with ProcessPoolExecutor(num_processes) as executor:
        futures = {executor.submit(run_job, run.job, folder / run.name): run for run in runs}
        try:
            for future in as_completed(futures):
                run = futures[future]
                results[run.name] = future.result()
                on_done(run, results[run.name])
        finally:
            executor.shutdown(cancel_futures=True)
    return [results[run.name] for run in runs]
