"""The command `compare_policies`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hfx_router.settings.load import load_settings
from policy_comparison.compare import PolicyRun, compare
from policy_comparison.servers import Site, emulated_site, real_site, slow_down
from policy_comparison.workload import TwoClasses

from hfx_sgl.errors import ConfigError, LaunchError, LoadTestError
from hfx_sgl.launch.cluster import interrupt_on_termination
from hfx_sgl.policy.bounds import at_least, check
from hfx_sgl.results.table import format_summary

ROOT = Path(__file__).resolve().parents[2]
_DEFAULTS = TwoClasses()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; see `--help`."""
    args = _parser().parse_args(argv)
    try:
        check(at_least("step_s", args.step_s, 0))
        policies = _policies(args.policies)
        workload = TwoClasses(
            rate_per_s=args.rate,
            duration_s=args.duration,
            tight_ttft_s=args.tight_ttft_s,
            relaxed_ttft_s=args.relaxed_ttft_s,
            seed=args.seed,
        )
        interrupt_on_termination()
        with _site(args) as site:
            slow_down(site.servers, args.step_s)
            runs = compare(site, workload, policies, say=_say)
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return 2
    except (LaunchError, LoadTestError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    for run in runs:
        print(_described(run))
    return 0 if all(run.num_answered == run.num_requests and not run.remains for run in runs) else 1


def _policies(text: str) -> list[str]:
    """Return the policies, each of which the router knows."""
    names = text.split(",")
    if len(set(names)) < len(names):
        raise ConfigError(f"--policies: one of them is named twice ({text})")
    for name in names:
        try:
            load_settings(["--policy", name], {})
        except ConfigError as exc:
            raise ConfigError(*(f"--policies: {problem}" for problem in exc.problems)) from exc
    return names


def _site(args: argparse.Namespace) -> AbstractContextManager[Site]:
    log_dir = args.log_dir.absolute()
    log_dir.mkdir(parents=True, exist_ok=True)
    if args.servers == "real":
        return real_site(ROOT, log_dir, args.base_port)
    return emulated_site(log_dir, args.base_port)


def _described(run: PolicyRun) -> str:
    lines = [f"--policy {run.policy}", format_summary(run.summary)]
    lines += [f"{count} x {reason}" for reason, count in run.errors]
    lines += [f"note: {problem}" for problem in run.problems]
    lines += [f"LEFT OVER: {name} = {value:g}" for name, value in run.remains.items()]
    return "\n".join([*lines, ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compare_policies",
        description="Sends the same requests of two classes, one with a tight and one with a "
        "relaxed promise, through one router after the other, in front of the same 2 prefill and "
        "2 decode servers, and prints what became of them. Exit status 0: every request was "
        "answered and nothing is held afterwards; 1: not so, or it could not be measured.",
    )
    parser.add_argument(
        "--policies",
        default="hfx,round_robin",
        metavar="NAME[,NAME...]",
        help="in this order (default: %(default)s)",
    )
    cluster = parser.add_argument_group("servers")
    cluster.add_argument(
        "--servers",
        choices=("real", "emulated"),
        default="real",
        help="SGLang on this machine's CPU, which is installed on first use, or emulated ones "
        "(default: %(default)s)",
    )
    cluster.add_argument(
        "--step-s",
        type=float,
        default=0.1,
        help="added to each forward step of prefill servers (default: %(default)s)",
    )
    cluster.add_argument("--base-port", type=int, default=21_000, help="(default: %(default)s)")
    cluster.add_argument(
        "--log-dir", type=Path, default=ROOT / ".hfx" / "logs", help="(default: %(default)s)"
    )
    load = parser.add_argument_group("requests")
    load.add_argument(
        "--rate",
        type=float,
        default=_DEFAULTS.rate_per_s,
        help="requests per second (default: %(default)s)",
    )
    load.add_argument(
        "--duration",
        type=float,
        default=_DEFAULTS.duration_s,
        help="seconds of arrivals (default: %(default)s)",
    )
    load.add_argument(
        "--tight-ttft-s", type=float, default=_DEFAULTS.tight_ttft_s, help="(default: %(default)s)"
    )
    load.add_argument(
        "--relaxed-ttft-s",
        type=float,
        default=_DEFAULTS.relaxed_ttft_s,
        help="(default: %(default)s)",
    )
    load.add_argument("--seed", type=int, default=_DEFAULTS.seed, help="(default: %(default)s)")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
