"""Simulations by name: made into jobs, run where they are missing, read back."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from baselines.shapes import Shape

from hfx_sgl.results.reader import Run, read_run
from hfx_sgl.results.run import INFO_FILE, RECORDS_FILE
from hfx_sgl.sim.job import JobResult, SimJob
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.sweep import SweepRun, run_sweep
from hfx_sgl.workload.arguments import PlannedLoad
from hfx_sgl.workload.load import DEFAULT_WORKLOAD, load_workload

_SHOW_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One simulation."""

    folder: str
    """Where it goes, below the folder of all runs."""
    shape: Shape
    policy: str
    load_factor: float
    seed: int
    duration_s: float
    profile: str
    workload: str = DEFAULT_WORKLOAD
    """Name or path."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SimSpec that differ."""

    @property
    def name(self) -> str:
        """The path of its run folder, below the folder of all runs."""
        return (
            f"{self.folder}/{self.shape.label.lower()}/"
            f"{self.policy}_{self.load_factor:g}x_seed{self.seed}"
        )

    @property
    def job(self) -> SimJob:
        """What the simulator is to do."""
        spec = SimSpec(
            profile=self.profile,
            num_workers=self.shape.num_workers,
            num_prefill=self.shape.num_prefill,
            num_decode=self.shape.num_decode,
            policy=self.policy,
            seed=self.seed,
        )
        load = PlannedLoad(
            workload=load_workload(self.workload),
            seed=self.seed,
            load_factor=self.load_factor,
            duration_s=self.duration_s,
            num_requests=None,
        )
        return SimJob(spec=replace(spec, **self.changes), load=load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs cases into one folder, several at a time."""

    folder: Path
    num_processes: int

    def run(self, part: str, cases: Sequence[Case]) -> list[Run]:
        """Run those that are not there yet; returns all, in the same order.

        Raises:
            ConfigError: a job cannot be run, or a folder holds something else than a run.
        """
        unique = {case.name: case for case in cases}
        missing = [case for name, case in unique.items() if not self._is_there(name)]
        for case in missing:
            self._discard(self.folder / case.name)
        num_done = 0

        def show(run: SweepRun, result: JobResult) -> None:
            nonlocal num_done
            num_done += 1
            if num_done % _SHOW_EVERY == 0 or num_done == len(missing):
                print(f"{part}: {num_done} of {len(missing)} runs", file=sys.stderr)

        if missing:
            run_sweep(
                [SweepRun(name=case.name, job=case.job) for case in missing],
                self.folder,
                num_processes=self.num_processes,
                on_done=show,
            )
        read = {name: read_run(self.folder / name) for name in unique}
        return [read[case.name] for case in cases]

    def _is_there(self, name: str) -> bool:
        return (self.folder / name / INFO_FILE).exists()

    @staticmethod
    def _discard(folder: Path) -> None:
        """Remove what a run that was stopped has left."""
        if (folder / RECORDS_FILE).exists():
            shutil.rmtree(folder)


def versions_of(runs: Iterable[Run]) -> str:
    """Return the versions that made the runs; more than one is worth a look."""
    return ", ".join(sorted({run.info.version for run in runs}))
