"""A simulation on the command line: flags in, a SimJob out."""

import argparse
from dataclasses import fields

from hfx_sgl.engine.arguments import add_engine_arguments, engine_settings
from hfx_sgl.engine.profile import DEFAULT_PROFILE
from hfx_sgl.policy.selection.catalog import POLICY_NAMES, PREFILL_POLICY_NAMES
from hfx_sgl.policy.selection.config import AssignmentMode, SelectionConfig
from hfx_sgl.sim.job import SimJob
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.sim.scheduler_settings import FLAG, scheduler_config, setting_names
from hfx_sgl.sim.slo_router import POLICY_NAME
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.arguments import add_workload_arguments, workload_from_args

_SPEC_DEFAULTS = {field.name: field.default for field in fields(SimSpec)}
_SELECTION = SelectionConfig()


def add_job_arguments(parser: argparse.ArgumentParser) -> None:
    """Add everything that a SimJob holds."""
    _add_cluster(parser)
    _add_router(parser)
    _add_trouble(parser)
    add_workload_arguments(parser)
    add_engine_arguments(parser)
    _add_run(parser)


def job_from_args(args: argparse.Namespace) -> SimJob:
    """Return what the arguments describe.

    Raises:
        ConfigError: a cluster that cannot serve anything, a value out of range or a bad workload.
    """
    spec = _spec(args)
    return SimJob(spec=spec, load=workload_from_args(args), slo_set=args.slo_set)


def _spec(args: argparse.Namespace) -> SimSpec:
    return SimSpec(
        profile=args.profile,
        num_workers=args.workers,
        num_prefill=args.prefill,
        num_decode=args.decode,
        worker_profiles=tuple(args.worker_profiles),
        time_scales=tuple(args.time_scales),
        policy=args.policy,
        prefill_policy=args.prefill_policy,
        decode_policy=args.decode_policy,
        selection=SelectionConfig(
            cache_threshold=args.cache_threshold,
            balance_abs_threshold=args.balance_abs_threshold,
            balance_rel_threshold=args.balance_rel_threshold,
            max_tree_chars=args.max_tree_size,
            assignment_mode=args.assignment_mode,
        ),
        scheduler=scheduler_config(args.scheduler_set),
        knowledge=Knowledge(
            report_delay_s=args.report_delay_s,
            report_loss_ratio=args.report_loss,
            prompt_error_ratio=args.prompt_error,
        ),
        engine=engine_settings(args),
        network_s=args.network_s,
        handshake_s=args.handshake_s,
        max_drain_s=args.max_drain_s,
        sample_interval_s=args.sample_interval_s or None,
        seed=args.seed,
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--profile",
        default=DEFAULT_PROFILE,
        metavar="NAME|DIR",
        help="engine profile: model and device with measured step times (default: %(default)s)",
    )
    group.add_argument("--workers", type=int, default=0, metavar="N", help="unified workers")
    group.add_argument(
        "--prefill", type=int, default=0, metavar="P", help="prefill workers; needs --decode"
    )
    group.add_argument(
        "--decode", type=int, default=0, metavar="D", help="decode workers; needs --prefill"
    )


def _add_router(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("router", "As hfx-router takes them.")
    group.add_argument(
        "--policy",
        default=_SPEC_DEFAULTS["policy"],
        metavar="NAME",
        help=f"{', '.join(POLICY_NAMES)}, or one of an installed package; {POLICY_NAME}: the "
        "SLO-aware scheduler (default: %(default)s)",
    )
    extra = ", ".join(sorted(set(PREFILL_POLICY_NAMES) - set(POLICY_NAMES)))
    group.add_argument(
        "--prefill-policy",
        metavar="NAME",
        help=f"for prefill workers, also {extra} (default: --policy)",
    )
    group.add_argument(
        "--decode-policy", metavar="NAME", help="for decode workers (default: --policy)"
    )
    group.add_argument(
        "--cache-threshold", type=float, default=_SELECTION.cache_threshold, metavar="X",
        help="cache_aware: share of the prompt that must match (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--balance-abs-threshold", type=int, default=_SELECTION.balance_abs_threshold, metavar="N",
        help="cache_aware, bucket: difference of loads to balance at (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--balance-rel-threshold", type=float, default=_SELECTION.balance_rel_threshold,
        metavar="X", help="cache_aware, bucket: and their ratio (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--max-tree-size", type=int, default=_SELECTION.max_tree_chars, metavar="BYTES",
        help="cache_aware: prompt text remembered for each worker (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--assignment-mode", type=AssignmentMode, choices=list(AssignmentMode),
        default=_SELECTION.assignment_mode,
        help="manual: worker for a new routing key (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        FLAG, action="append", default=[], metavar="NAME=VALUE",
        help=f"{POLICY_NAME}: a setting of the scheduler; repeatable; {', '.join(setting_names())}",
    )  # fmt: skip


def _add_trouble(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "trouble", f"Workers that differ, and what the policy {POLICY_NAME} does not get to know."
    )
    group.add_argument(
        "--worker-profiles", nargs="+", default=[], metavar="NAME|DIR",
        help="profiles of the workers in order, prefill workers first (default: --profile)",
    )  # fmt: skip
    group.add_argument(
        "--time-scales", nargs="+", type=float, default=[], metavar="X",
        help="what their step times are multiplied by, in the same order; 2: half as fast "
        "(default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--report-delay-s", type=float, default=0.0, metavar="S",
        help="load reports of workers arrive so late (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--report-loss", type=float, default=0.0, metavar="X",
        help="share of them that never arrives (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--prompt-error", type=float, default=0.0, metavar="X",
        help="how far estimated prompt lengths are off at most, as a share; 0.2: 20 %% to either "
        "side (default: %(default)s)",
    )  # fmt: skip


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    for flag, text in (
        ("--network-s", "one way between client and worker, through the router"),
        ("--handshake-s", "from the decode worker's reservation until the prefill worker knows"),
        ("--max-drain-s", "how long requests may go on after the last arrival"),
        ("--sample-interval-s", "how often workers are sampled; 0: never"),
    ):
        dest = flag.removeprefix("--").replace("-", "_")
        group.add_argument(
            flag, type=float, default=_SPEC_DEFAULTS[dest], metavar="S",
            help=f"{text} (default: %(default)s)",
        )  # fmt: skip
