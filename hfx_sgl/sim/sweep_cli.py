"""The command `hfx-sim sweep`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError
from hfx_sgl.sim.arguments import add_job_arguments, job_from_args
from hfx_sgl.sim.job import JobResult
from hfx_sgl.sim.sweep import SweepRun, run_sweep, sweep_runs

_DESCRIPTION = """\
Simulates every policy at every load factor with every seed, several at once, each into a folder of
its own below the output folder. --policy, --load-factor and --seed of a single run do not count.
"""
_BAR_CELLS = 24


def run_sweep_command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status.

    Raises:
        ConfigError: bad input.
    """
    args = _parser().parse_args(arguments)
    if args.processes < 1:
        raise ConfigError(f"--processes: must be at least 1 (got {args.processes})")
    runs = sweep_runs(job_from_args(args), args.policies, args.load_factors, args.seeds)
    bar = _Bar(sys.stderr, WallClock(), len(runs))
    results = run_sweep(runs, args.output, num_processes=args.processes, on_done=bar.advance)
    bar.close()
    print("\n".join(_table(runs, results)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfx-sim sweep", description=_DESCRIPTION)
    group = parser.add_argument_group("sweep")
    group.add_argument("--policies", nargs="+", required=True, metavar="NAME")
    group.add_argument("--load-factors", nargs="+", type=float, default=[1.0], metavar="X")
    group.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    group.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="simulations at a time (default: one for each core, %(default)s)",
    )
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the runs' folders"
    )
    add_job_arguments(parser)
    return parser


class _Bar:
    """How many runs are done, and how long the rest may take."""

    def __init__(self, stream: TextIO, clock: Clock, num_runs: int) -> None:
        self._stream = stream
        self._clock = clock
        self._num_runs = num_runs
        self._num_done = 0
        self._started_s = clock.now_s()

    def advance(self, run: SweepRun, result: JobResult) -> None:
        """One more is done."""
        self._num_done += 1
        elapsed_s = self._clock.now_s() - self._started_s
        left_s = elapsed_s / self._num_done * (self._num_runs - self._num_done)
        filled = _BAR_CELLS * self._num_done // self._num_runs
        text = (
            f"[{'#' * filled}{'.' * (_BAR_CELLS - filled)}] {self._num_done} of {self._num_runs}, "
            f"{elapsed_s:.0f} s, about {left_s:.0f} s left; {run.name}"
        )
        self._stream.write(f"\r\x1b[K{text}" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._stream.isatty():
            self._stream.write("\n")


def _table(runs: Sequence[SweepRun], results: Sequence[JobResult]) -> list[str]:
    """Return one line for each run: attainment overall and of the worst class."""
    width = max(len(run.name) for run in runs)
    lines = [f"{'run':{width}}  attained   worst class"]
    for run, result in zip(runs, results, strict=True):
        attained = result.summary.overall.slo_attainment
        worst = result.summary.worst_class
        assert attained is not None  # a run without requests is refused
        assert worst is not None
        lines.append(
            f"{run.name:{width}}  {100 * attained:7.1f}%  "
            f"{100 * worst.slo_attainment:6.1f}% {worst.name}"
        )
    return lines
