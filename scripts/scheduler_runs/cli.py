"""The command line of scripts/bench_scheduler."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from baselines.shapes import SHAPES, Shape
from scheduler_runs import ablations_page, robustness_page
from scheduler_runs.ablations import AblationPlan, run_ablations
from scheduler_runs.bounds import read_bounds
from scheduler_runs.cases import Runner
from scheduler_runs.emulated import EMULATED_FOLDER, agreement_page, load_points, run_points
from scheduler_runs.robustness import RobustnessPlan, run_robustness
from scheduler_runs.sweep import POLICY, SWEEP_FOLDER, SweepPlan, run_sweep
from scheduler_runs.targets import judge
from scheduler_runs.targets_page import targets_page

from hfx_sgl.engine.profile import DEFAULT_PROFILE
from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.cluster import interrupt_on_termination
from hfx_sgl.report.cli import main as report

_DESCRIPTION = f"""\
Measures the policy {POLICY} on four workers, unified and as two prefill and two decode workers, in
parts that can be run alone. sweep: against the baselines over loads, with a page that judges the
targets. ablations: without each of its parts. robustness: under what it was not planned for.
emulated: some loads through the real router, which wants a quiet machine. Runs that are in the
folder already are not run again. Returns 1 when a target is missed, a baseline attains more under
some condition, or an emulated run is not valid.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    interrupt_on_termination()
    try:
        _check(args)
        passed = [_PARTS[part](args) for part in _PARTS if part in args.parts]
    except (ConfigError, LaunchError) as exc:
        print(f"bench_scheduler: {exc}", file=sys.stderr)
        return 2 if isinstance(exc, ConfigError) else 1
    except KeyboardInterrupt:
        print("bench_scheduler: stopped; what is complete is kept", file=sys.stderr)
        return 1
    return 0 if all(passed) else 1


def _sweep(args: argparse.Namespace) -> bool:
    bounds, assumptions = (None, "") if args.bounds is None else read_bounds(args.bounds)
    plan = SweepPlan(
        shapes=_shapes(args),
        load_factors=args.load_factors,
        max_baseline_load=args.max_baseline_load,
        seeds=args.seeds,
        duration_s=args.duration,
        profile=args.profile,
    )
    result = run_sweep(_runner(args), plan)
    _report(args, SWEEP_FOLDER, "The SLO-aware scheduler, simulated")
    targets = judge(result, bounds)
    page = args.results / "targets.md"
    page.write_text(targets_page(result, targets, bounds, assumptions))
    num_reached = sum(target.is_reached is True for target in targets)
    print(f"{page}: {num_reached} of {len(targets)} targets reached")
    return num_reached == len(targets)


def _ablations(args: argparse.Namespace) -> bool:
    plan = AblationPlan(
        shapes=_shapes(args),
        load_factors=args.ablation_load_factors,
        seeds=args.ablation_seeds,
        duration_s=args.ablation_duration,
        profile=args.profile,
    )
    print(ablations_page.write_page(run_ablations(_runner(args), plan), args.results))
    return True


def _robustness(args: argparse.Namespace) -> bool:
    plan = RobustnessPlan(
        shapes=_shapes(args),
        load_factors=args.robustness_load_factors,
        seeds=args.robustness_seeds,
        duration_s=args.robustness_duration,
        profile=args.profile,
    )
    result = run_robustness(_runner(args), plan)
    page = robustness_page.write_page(result, args.results)
    num_lost = len(robustness_page.lost_cells(result))
    print(f"{page}: a baseline attains more in {num_lost} of {len(result.cells)} cells")
    return not num_lost


def _emulated(args: argparse.Namespace) -> bool:
    points = load_points(
        _shapes(args),
        args.emulated_policies,
        args.emulated_load_factors,
        seed=args.emulated_seed,
        duration_s=args.emulated_duration,
        profile=args.profile,
    )
    agreements = run_points(points, args.runs, base_port=args.base_port)
    _report(args, EMULATED_FOLDER, "The SLO-aware scheduler, emulated workers")
    page = args.results / "agreement.md"
    page.write_text(agreement_page(agreements, args.emulated_duration))
    num_invalid = sum(not agreement.emulated.info.is_valid for agreement in agreements)
    print(f"{page}: {num_invalid} of {len(agreements)} emulated runs are not valid")
    return not num_invalid


_PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "sweep": _sweep,
    "ablations": _ablations,
    "robustness": _robustness,
    "emulated": _emulated,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench_scheduler", description=_DESCRIPTION)
    labels = [shape.label for shape in SHAPES]
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--results", type=Path, required=True, help="folder for the pages")
    parser.add_argument(
        "--parts", nargs="+", default=list(_PARTS), choices=list(_PARTS), help="(all)"
    )
    parser.add_argument("--clusters", nargs="+", default=labels, choices=labels, help="(all)")
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help="(%(default)s)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N",
        help="simulations at a time (one for each core, %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("sweep")
    _add_plan(group, "", [1, 2, 3, 4, 5, 6, 7, 8, 10, 12], [1, 2, 3, 4, 5], 300.0)
    group.add_argument(
        "--max-baseline-load", type=float, default=8.0, metavar="X",
        help="the baselines are not run beyond (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--bounds", type=Path, metavar="FILE",
        help="clairvoyant bounds, as scripts/clairvoyant_bound writes them",
    )  # fmt: skip
    _add_plan(parser.add_argument_group("ablations"), "ablation-", [6, 8, 10], [1, 2, 3], 300.0)
    _add_plan(parser.add_argument_group("robustness"), "robustness-", [4, 6, 8], [1, 2], 120.0)
    group = parser.add_argument_group("emulated")
    group.add_argument(
        "--emulated-policies", nargs="+", default=[POLICY, "round_robin", "cache_aware"],
        metavar="NAME",
    )  # fmt: skip
    group.add_argument(
        "--emulated-load-factors", nargs="+", type=float, default=[4.0, 6.0, 8.0], metavar="X"
    )
    group.add_argument("--emulated-seed", type=int, default=1, metavar="N")
    group.add_argument("--emulated-duration", type=float, default=60.0, metavar="S")
    group.add_argument("--base-port", type=int, default=31_000, help="(%(default)s)")
    return parser


def _add_plan(
    group: argparse._ArgumentGroup,
    prefix: str,
    load_factors: Sequence[float],
    seeds: Sequence[int],
    duration_s: float,
) -> None:
    group.add_argument(
        f"--{prefix}load-factors", nargs="+", type=float, metavar="X",
        default=[float(load_factor) for load_factor in load_factors],
    )  # fmt: skip
    group.add_argument(f"--{prefix}seeds", nargs="+", type=int, default=list(seeds), metavar="N")
    group.add_argument(f"--{prefix}duration", type=float, default=duration_s, metavar="S")


def _check(args: argparse.Namespace) -> None:
    if args.processes < 1:
        raise ConfigError(f"--processes: must be at least 1 (got {args.processes})")
    for name in ("seeds", "load_factors"):
        for prefix in ("", "ablation_", "robustness_"):
            values = getattr(args, prefix + name)
            if len(set(values)) != len(values):
                flag = f"--{prefix}{name}".replace("_", "-")
                raise ConfigError(f"{flag}: each only once (got {values})")
    args.results.mkdir(parents=True, exist_ok=True)


def _shapes(args: argparse.Namespace) -> list[Shape]:
    return [shape for shape in SHAPES if shape.label in args.clusters]


def _runner(args: argparse.Namespace) -> Runner:
    return Runner(folder=args.runs, num_processes=args.processes)


def _report(args: argparse.Namespace, part: str, title: str) -> None:
    """Write the report of all runs of a part."""
    folders = [str(args.runs / part), "--output", str(args.results / part), "--title", title]
    if report(folders):
        raise ConfigError(f"{args.runs / part}: no report was made")
