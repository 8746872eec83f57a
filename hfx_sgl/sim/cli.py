"""The command `hfx-sim`: one simulation into a run folder, or a sweep of many."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hfx_sgl import __version__
from hfx_sgl.clock import WallClock
from hfx_sgl.errors import ConfigError
from hfx_sgl.results.table import format_summary
from hfx_sgl.sim.arguments import add_job_arguments, job_from_args
from hfx_sgl.sim.job import JobResult, run_job
from hfx_sgl.sim.progress import ProgressLine
from hfx_sgl.sim.sweep_cli import run_sweep_command

_DESCRIPTION = """\
Simulates a cluster of SGLang workers behind the router's own policies, on a virtual clock, with
measured step times. `hfx-sim sweep` runs many policies, loads and seeds; see hfx-sim sweep --help.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 when stopped, 2 for bad input."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        if arguments[:1] == ["sweep"]:
            return run_sweep_command(arguments[1:])
        return _run(_parser().parse_args(arguments))
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the output folder is incomplete", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfx-sim", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"hfx-sim {__version__}")
    add_job_arguments(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the run; made"
    )
    group.add_argument("--quiet", action="store_true", help="no progress, no table")
    return parser


def _run(args: argparse.Namespace) -> int:
    job = job_from_args(args)
    if args.quiet:
        run_job(job, args.output)
        return 0
    line = ProgressLine(sys.stderr, WallClock())
    try:
        result = run_job(job, args.output, progress=line.show)
    finally:
        line.close()
    _print_result(result, args.output)
    return 0


def _print_result(result: JobResult, folder: Path) -> None:
    info = result.info
    print(
        f"{info.cluster} {info.profile}, {info.policy}, {info.workload} at {info.load_factor:g}x, "
        f"seed {info.seed}, {info.duration_s:,.0f} s"
    )
    print(format_summary(result.summary))
    for problem in info.problems:
        print(f"note: {problem}")
    print(f"written to {folder}")
