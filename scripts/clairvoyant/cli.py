"""The command `clairvoyant_bound`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from clairvoyant.bound import Bound
from clairvoyant.point import Point, PointRuns, bound_of, read_points
from clairvoyant.table import ASSUMPTIONS, make_row, render, render_json

from hfx_sgl.errors import ConfigError
from hfx_sgl.sim.arguments import add_job_arguments, job_from_args

_DESCRIPTION = """\
Computes how many requests of a trace any scheduler could keep at most on a simulated cluster, were
it to know all arrivals, lengths and step times in advance. `runs` reads simulations (hfx-sim, also
the folder of a sweep) and says what share of the bound each policy attained; `load` is for a
workload and a cluster that nobody has simulated yet.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _parser().parse_args(arguments)
    try:
        if args.processes < 1:
            raise ConfigError(f"--processes: must be at least 1 (got {args.processes})")
        if args.rounds < 1:
            raise ConfigError(f"--rounds: must be at least 1 (got {args.rounds})")
        points = args.find_points(args)
        bounds = _bounds([each.point for each in points], args.processes, args.rounds)
        rows = [make_row(each, bound) for each, bound in zip(points, bounds, strict=True)]
        text = render(rows)
        if args.json is not None:
            _write(args.json, render_json(rows), "--json")
        if args.output is None:
            print(text, end="")
        else:
            _write(args.output, text, "--output")
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clairvoyant_bound",
        description=_DESCRIPTION,
        epilog=ASSUMPTIONS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs = commands.add_parser("runs", help="bounds for simulations, and what they attained of it")
    runs.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="searched for runs")
    runs.add_argument(
        "--workload", metavar="NAME|PATH", help="when a run's own name of it does not find it"
    )
    runs.set_defaults(find_points=lambda args: read_points(args.folders, args.workload))
    load = commands.add_parser(
        "load",
        help="bounds for a workload on a cluster",
        description="--load-factor, --seed and what concerns the router do not count.",
    )
    sweep = load.add_argument_group("bounds")
    sweep.add_argument("--load-factors", nargs="+", type=float, default=[1.0], metavar="X")
    sweep.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N")
    add_job_arguments(load)
    load.set_defaults(find_points=_planned_points)
    for command in (runs, load):
        _add_common(command)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computation")
    group.add_argument(
        "--output", type=Path, metavar="FILE", help="of the table (default: standard output)"
    )
    group.add_argument(
        "--json", type=Path, metavar="FILE", help="of the bounds, for bench_scheduler --bounds"
    )
    group.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="bounds at a time (default: one for each core, %(default)s)",
    )
    group.add_argument(
        "--rounds",
        type=int,
        default=40,
        metavar="N",
        help="how often more intervals are looked for; fewer bound less (default: %(default)s)",
    )


def _planned_points(args: argparse.Namespace) -> list[PointRuns]:
    job = job_from_args(args)
    return [
        PointRuns(
            point=Point(spec=job.spec, load=replace(job.load, load_factor=load_factor, seed=seed)),
            runs=(),
        )
        for load_factor in args.load_factors
        for seed in args.seeds
    ]


def _bounds(points: Sequence[Point], num_processes: int, max_rounds: int) -> list[Bound]:
    """Return the bounds, several computed at a time."""
    bounds: dict[int, Bound] = {}
    began_s = time.monotonic()
    with ProcessPoolExecutor(num_processes, initializer=_be_quiet) as executor:
        futures = {
            executor.submit(bound_of, point, max_rounds): i for i, point in enumerate(points)
        }
        try:
            for future in as_completed(futures):
                index = futures[future]
                bound = bounds[index] = future.result()
                print(
                    f"{len(bounds)} of {len(points)}, {time.monotonic() - began_s:.0f} s; "
                    f"{points[index].label}: {100 * bound.attainment:.2f} % at most, from "
                    f"{bound.num_intervals} intervals"
                    f"{'' if bound.is_final else ', without looking at all that ask too much'}",
                    file=sys.stderr,
                )
        finally:
            executor.shutdown(cancel_futures=True)
    return [bounds[i] for i in range(len(points))]


def _be_quiet() -> None:
    """Keep the solver's banner, which no option turns off, out of the table."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _write(path: Path, text: str, flag: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{flag}: {path}: {exc.strerror}") from exc
