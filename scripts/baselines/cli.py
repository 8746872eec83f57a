"""The command line of scripts/run_baselines."""

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from baselines.agreement import Agreement, agreement_table, read_agreement
from baselines.emulated import LoadPoint, run_emulated
from baselines.shapes import POLICIES, SHAPES, Shape
from baselines.simulated import NUM_VARIANTS, run_simulated, sweep

from hfx_sgl.engine.profile import DEFAULT_PROFILE
from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.cluster import interrupt_on_termination
from hfx_sgl.report.cli import main as report
from hfx_sgl.sim.job import JobResult
from hfx_sgl.sim.sweep import SweepRun

_DESCRIPTION = """\
Measures the selection policies on four workers, unified and as two prefill and two decode workers:
a sweep by the simulator, and some points on emulated workers behind the real router, the same
requests once more by the simulator beside them. Writes run folders, a report of the sweep, a report
of the emulated runs, and how well the two agree. The emulated part wants a quiet machine; points
whose runs are in the folder already are not run again.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 1 when a point does not agree or a run is not valid."""
    args = _parser().parse_args(argv)
    interrupt_on_termination()
    shapes = [shape for shape in SHAPES if shape.label in args.clusters]
    try:
        if not args.skip_sweep:
            _sweep(args, shapes)
        if args.skip_emulated:
            return 0
        agreements = _emulate(args, shapes)
    except (ConfigError, LaunchError) as exc:
        print(f"run_baselines: {exc}", file=sys.stderr)
        return 1
    table = agreement_table(agreements)
    (args.results / "agreement.md").write_text(
        f"# Simulation against emulation\n\n"
        f"The same {args.emulated_duration:g} s of requests by both, one emulated run each. "
        f"Each point was simulated {NUM_VARIANTS} times, with other draws of the policy and "
        f"network times between 0.7 and 1.3 of the usual. The range is shown, and how far outside "
        f"of it the emulated run lies: a wide range means that small differences decide. "
        f"Version {agreements[0].emulated.info.version}.\n\n{table}"
    )
    print(table)
    num_off = sum(not agreement.is_within for agreement in agreements)
    print(f"{len(agreements) - num_off} of {len(agreements)} points agree")
    return 1 if num_off else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run_baselines", description=_DESCRIPTION)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--results", type=Path, required=True, help="folder for the reports")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help="(%(default)s)")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), metavar="NAME")
    parser.add_argument(
        "--clusters", nargs="+", default=[shape.label for shape in SHAPES],
        choices=[shape.label for shape in SHAPES],
    )  # fmt: skip
    group = parser.add_argument_group("sweep by the simulator")
    group.add_argument("--skip-sweep", action="store_true")
    group.add_argument(
        "--load-factors", nargs="+", type=float, metavar="X",
        default=[0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
    )  # fmt: skip
    group.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], metavar="N")
    group.add_argument("--duration", type=float, default=300.0, metavar="S")
    group.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="N")
    group = parser.add_argument_group("emulated workers")
    group.add_argument("--skip-emulated", action="store_true")
    group.add_argument(
        "--emulated-load-factors", nargs="+", type=float, default=[1.0, 4.0, 6.0], metavar="X"
    )
    group.add_argument("--emulated-seed", type=int, default=1, metavar="N")
    group.add_argument("--emulated-duration", type=float, default=60.0, metavar="S")
    group.add_argument("--base-port", type=int, default=31_000, help="(%(default)s)")
    return parser


def _sweep(args: argparse.Namespace, shapes: Sequence[Shape]) -> None:
    num_runs = len(shapes) * len(args.policies) * len(args.load_factors) * len(args.seeds)
    num_done = 0

    def show(run: SweepRun, result: JobResult) -> None:
        nonlocal num_done
        num_done += 1
        if num_done % 10 == 0 or num_done == num_runs:
            print(f"sweep: {num_done} of {num_runs} runs", file=sys.stderr)

    sweep(
        shapes,
        policies=args.policies,
        load_factors=args.load_factors,
        seeds=args.seeds,
        duration_s=args.duration,
        profile=args.profile,
        folder=args.runs / "sweep",
        num_processes=args.processes,
        on_done=show,
    )
    _report(args.runs / "sweep", args.results / "sweep", "Selection policies, simulated")


def _emulate(args: argparse.Namespace, shapes: Sequence[Shape]) -> list[Agreement]:
    points = [
        LoadPoint(
            shape=shape,
            policy=policy,
            load_factor=load_factor,
            seed=args.emulated_seed,
            duration_s=args.emulated_duration,
            profile=args.profile,
        )
        for shape, load_factor, policy in product(shapes, args.emulated_load_factors, args.policies)
    ]
    agreements = []
    for number, point in enumerate(points, start=1):
        print(f"emulated: {number} of {len(points)}, {point.name}", file=sys.stderr)
        emulated = args.runs / "emulated" / point.name
        simulated = args.runs / "same-requests" / point.name
        if not (emulated / "run.json").exists():
            run_emulated(point, emulated, base_port=args.base_port)
        agreements.append(read_agreement(run_simulated(point, simulated), emulated))
        print(agreement_table(agreements[-1:]).splitlines()[-1], file=sys.stderr)
    _report(
        args.runs / "emulated", args.results / "emulated", "Selection policies, emulated workers"
    )
    return agreements


def _report(runs: Path, folder: Path, title: str) -> None:
    if report([str(runs), "--output", str(folder), "--title", title]):
        raise ConfigError(f"{runs}: no report was made")
