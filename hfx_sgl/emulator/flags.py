"""The flags of `hfx-emulator`; those that SGLang has too carry its names."""

import argparse
from collections.abc import Sequence

from hfx_sgl.emulator.cluster import EmulatorShape
from hfx_sgl.emulator.desk import HandoffTimes
from hfx_sgl.emulator.failures import ValueRefused
from hfx_sgl.emulator.faults import FaultPlan
from hfx_sgl.emulator.kv.settings import KvBackend, RealKv
from hfx_sgl.engine.arguments import add_engine_arguments, engine_settings
from hfx_sgl.engine.profile import DEFAULT_PROFILE, profile_names
from hfx_sgl.errors import ConfigError


def parse_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the flags. Ends the program with status 2 on unknown ones."""
    return make_parser().parse_args(argv)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="hfx-emulator",
        description="Runs emulated SGLang workers: the HTTP interface of SGLang 0.5.23 over a "
        "model of its scheduler with measured step times, in real time and without a GPU.",
    )
    _add_shape(parser.add_argument_group("what to run"))
    add_engine_arguments(parser)
    _add_handoff(parser.add_argument_group("hand-off between prefill and decode"))
    _add_kv(parser.add_argument_group("real bytes in hand-offs"))
    _add_faults(parser.add_argument_group("faults (also at run time: POST /emulated/faults)"))
    return parser


def read_shape(args: argparse.Namespace) -> EmulatorShape:
    """Return what the flags ask for.

    Raises:
        ConfigError: a value is out of range.
    """
    has_pair = args.prefill is not None or args.decode is not None
    num_regular = args.workers
    if num_regular is None:
        num_regular = 0 if has_pair else 1
    try:
        faults = FaultPlan(
            latency_s=args.fault_latency_s,
            error_rate=args.fault_error_rate,
            error_status=args.fault_error_status,
            reset_rate=args.fault_reset_rate,
        )
    except ValueRefused as exc:
        raise ConfigError(f"fault_{exc.message}") from exc
    return EmulatorShape(
        num_regular=num_regular,
        num_prefill=args.prefill or 0,
        num_decode=args.decode or 0,
        num_processes=args.processes,
        host=args.host,
        base_port=args.base_port,
        served_model_name=args.served_model_name,
        startup_s=args.startup_s,
        has_role_switch=args.enable_pd_role_switch,
        reports_cache=args.enable_cache_report,
        api_key=args.api_key,
        engine=engine_settings(args),
        handoff=HandoffTimes(
            dead_peer_delay_s=args.dead_peer_delay_s,
            bootstrap_timeout_s=args.bootstrap_timeout_s,
            waiting_timeout_s=args.waiting_timeout_s,
        ),
        real_kv=_real_kv(args),
        faults=faults,
    )


def _real_kv(args: argparse.Namespace) -> RealKv | None:
    if args.kv == "modelled":
        return None
    return RealKv(
        backend=KvBackend(args.kv_backend),
        bytes_per_token=args.kv_bytes_per_token,
        pool_bytes=args.kv_pool_bytes,
        token=args.kv_token,
    )


def _add_shape(group: argparse._ArgumentGroup) -> None:
    names = ", ".join(profile_names())
    group.add_argument(
        "--profile",
        default=DEFAULT_PROFILE,
        help=f"model and device: one of {names}, or a folder (%(default)s)",
    )
    group.add_argument("--workers", type=int, metavar="N", help="workers that do both stages (1)")
    group.add_argument("--prefill", type=int, metavar="N", help="prefill workers, instead")
    group.add_argument("--decode", type=int, metavar="M", help="decode workers, instead")
    group.add_argument(
        "--processes", type=int, default=1, help="how many processes share them (%(default)s)"
    )
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    group.add_argument(
        "--base-port",
        "--port",
        type=int,
        default=21000,
        help="first port; each worker takes ten, the second for its bootstrap server (%(default)s)",
    )
    group.add_argument("--served-model-name", help="what clients call the model (the profile's)")
    group.add_argument("--api-key", help="what clients must send as bearer token")
    group.add_argument(
        "--startup-s",
        type=float,
        default=0.0,
        help="seconds from the start until requests are taken (%(default)s)",
    )
    group.add_argument(
        "--enable-cache-report", action="store_true", help="usage tells of cached prompt tokens"
    )
    group.add_argument(
        "--enable-pd-role-switch", action="store_true", help="allow POST /pd_role_switch"
    )
    group.add_argument("--only", type=_numbers, help=argparse.SUPPRESS)


def _add_handoff(group: argparse._ArgumentGroup) -> None:
    times = HandoffTimes()
    group.add_argument(
        "--dead-peer-delay-s",
        type=float,
        default=times.dead_peer_delay_s,
        help="seconds until a decode worker notices that a prefill worker is gone; SGLang takes "
        "11 (%(default)s)",
    )
    group.add_argument(
        "--bootstrap-timeout-s",
        type=float,
        default=times.bootstrap_timeout_s,
        help="how long prefill workers wait for the decode side (%(default)s)",
    )
    group.add_argument(
        "--waiting-timeout-s",
        type=float,
        default=times.waiting_timeout_s,
        help="how long decode workers wait for the KV (%(default)s)",
    )


def _add_kv(group: argparse._ArgumentGroup) -> None:
    real = RealKv()
    group.add_argument(
        "--kv",
        choices=("modelled", "real"),
        default="modelled",
        help="whether hand-offs only take the modelled time, or until real bytes have arrived too "
        "and are verified (%(default)s)",
    )
    group.add_argument(
        "--kv-backend",
        choices=[backend.value for backend in KvBackend],
        default=real.backend.value,
        help="how they move; mooncake listens on every interface (%(default)s)",
    )
    group.add_argument(
        "--kv-bytes-per-token",
        type=int,
        default=real.bytes_per_token,
        help="how many for each token of a prompt, a multiple of 8; a model has some 100000 "
        "(%(default)s)",
    )
    group.add_argument(
        "--kv-pool-bytes",
        type=int,
        default=real.pool_bytes,
        help="memory for them in each worker; prompts wait for room in it (%(default)s)",
    )
    group.add_argument(
        "--kv-token", help="what workers must show each other; needed beyond loopback"
    )


def _add_faults(group: argparse._ArgumentGroup) -> None:
    plan = FaultPlan()
    group.add_argument(
        "--fault-latency-s",
        type=float,
        default=plan.latency_s,
        help="wait before each inference request (%(default)s)",
    )
    group.add_argument(
        "--fault-error-rate",
        type=float,
        default=plan.error_rate,
        help="fraction answered with an error (%(default)s)",
    )
    group.add_argument(
        "--fault-error-status",
        type=int,
        default=plan.error_status,
        help="status of those errors (%(default)s)",
    )
    group.add_argument(
        "--fault-reset-rate",
        type=float,
        default=plan.reset_rate,
        help="fraction whose connection is reset (%(default)s)",
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
