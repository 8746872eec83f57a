"""The command line of `scripts/launch_pd_cluster`: flags in, a running cluster until a signal."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch import netns, prepare
from hfx_sgl.launch.cluster import Cluster, interrupt_on_termination
from hfx_sgl.launch.devices import TRANSFER_BACKENDS, Device, detect_device, present_device_ids
from hfx_sgl.launch.plan import ClusterPlan, plan_cluster
from hfx_sgl.launch.render import render_plan
from hfx_sgl.launch.spec import PORTS_PER_SERVER, ClusterSpec
from hfx_sgl.launch.weights import WeightBootstrap, WeightBootstrapFlags

_WATCH_S = 0.5
_VISIBLE_DEVICES = {
    Device.CUDA: "CUDA_VISIBLE_DEVICES",
    Device.NPU: "ASCEND_RT_VISIBLE_DEVICES",
}


def main(root: Path, weight_flags: WeightBootstrapFlags, argv: Sequence[str] | None = None) -> int:
    """Run the launcher of the checkout `root` and return its exit status.

    `weight_flags` brings what gives servers their weights from elsewhere than the disk.
    """
    args = _parser(weight_flags).parse_args(argv)
    try:
        return _launch(root, args, weight_flags.configure(args))
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return 2
    except LaunchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 0


def _launch(root: Path, args: argparse.Namespace, weights: WeightBootstrap | None) -> int:
    spec = _spec(root, args, is_bootstrap=weights is not None)
    plan = plan_cluster(spec)
    if weights is not None:
        weights.check(plan.servers)
    if args.dry_run:
        print(_render(plan, weights), end="")
        return 0
    interrupt_on_termination()
    if spec.device is Device.CPU:
        # Before anything is built: an answer in seconds is better than one in minutes.
        is_isolated = args.netns and _check_isolation(spec, is_bootstrap=weights is not None)
        if args.sglang_python is None:
            prepare.ensure_sglang_cpu(root)
        if args.model_path is None:
            prepare.ensure_tiny_model(root, spec.sglang_python)
        if is_isolated:
            netns.isolate()
    start = None if weights is None else weights.start
    with Cluster(plan, start_servers=start, ready_timeout_s=args.ready_timeout_secs) as cluster:
        print(_describe_running(spec, plan), flush=True)
        return _watch(cluster)


def _render(plan: ClusterPlan, weights: WeightBootstrap | None) -> str:
    if weights is None:
        return render_plan(plan)
    return render_plan(replace(plan, servers=weights.preview(plan.servers)), weights.notes)


def _check_isolation(spec: ClusterSpec, *, is_bootstrap: bool) -> bool:
    """Whether to isolate; refuses a model that could not be had from inside."""
    if is_bootstrap:
        # From a namespace of its own it would reach nobody who has weights.
        if not netns.is_isolated():
            print(
                "warning: Mooncake listens on all of this machine's network interfaces; to take "
                "weights from servers in a network namespace, run this in there (nsenter)",
                file=sys.stderr,
            )
        return False
    if not netns.can_isolate():
        print(
            "warning: without the right to make a network namespace (root has it), Mooncake "
            "listens on all of this machine's network interfaces",
            file=sys.stderr,
        )
        return False
    if not Path(spec.model_path).is_absolute():
        raise ConfigError(
            f"model_path: {spec.model_path} is not a folder on this machine, and the servers' "
            "network namespace reaches no hub; download it first, or pass --no-netns"
        )
    return True


def _watch(cluster: Cluster) -> int:
    """Report who ends; return when nothing is left that could serve a request."""
    while True:
        for ended in cluster.poll(_WATCH_S):
            cluster.report_end(ended)
            if ended.plan.role is None:
                raise LaunchError("the router has ended")
        if not any(i.status is None and i.plan.role for i in cluster.instances.values()):
            raise LaunchError("every server has ended")


def _spec(root: Path, args: argparse.Namespace, *, is_bootstrap: bool) -> ClusterSpec:
    device = detect_device() if args.device == "auto" else Device(args.device)
    num_prefill, num_decode = args.prefill, args.decode
    if args.regular and num_prefill is None and num_decode is None:
        num_prefill = num_decode = 0
    is_joining = is_bootstrap and args.no_router
    return ClusterSpec(
        model_path=_model_path(root, args, device),
        num_prefill=1 if num_prefill is None else num_prefill,
        num_decode=1 if num_decode is None else num_decode,
        num_regular=args.regular,
        device=device,
        host=args.host,
        base_port=args.base_port,
        tp_size=args.tp_size,
        served_model_name=_served_model_name(args),
        device_ids=_device_ids(args, device),
        transfer_backend=args.transfer_backend,
        ib_device=args.ib_device,
        server_args=tuple(shlex.split(args.server_args)),
        prefill_args=tuple(shlex.split(args.prefill_args)),
        decode_args=tuple(shlex.split(args.decode_args)),
        sglang_python=_sglang_python(root, args, device),
        router_python=None if args.no_router else _router_python(root, args),
        router_port=args.router_port,
        prometheus_port=args.prometheus_port,
        router_args=tuple(shlex.split(args.router_args)),
        log_dir=str((args.log_dir or root / ".hfx" / "logs").absolute()),
        seed_weights=args.seed_weights or is_bootstrap,
        is_joining=is_joining,
        store_url=os.environ.get("ASCEND_MF_STORE_URL") if is_joining else None,
    )


def _model_path(root: Path, args: argparse.Namespace, device: Device) -> str:
    if args.model_path is None:
        if device is not Device.CPU:
            raise ConfigError(
                f"model_path: pass --model-path (only a cpu has a default, not {device})"
            )
        return prepare.tiny_model_path(root)
    path = Path(args.model_path)
    # A folder is given from the root, as a mark that it is one; a hub id stays as it is.
    return str(path.absolute()) if path.is_dir() else str(path)


def _served_model_name(args: argparse.Namespace) -> str | None:
    if args.served_model_name is None and args.model_path is None:
        return prepare.TINY_MODEL_NAME
    return str(args.served_model_name) if args.served_model_name is not None else None


def _device_ids(args: argparse.Namespace, device: Device) -> tuple[str, ...] | None:
    variable = _VISIBLE_DEVICES.get(device)
    if variable is None:
        return None
    listed = args.device_ids if args.device_ids is not None else os.environ.get(variable)
    if listed is not None:
        return tuple(part.strip() for part in listed.split(",") if part.strip())
    # The commands for another machine can be shown on one without accelerators.
    return None if args.dry_run else present_device_ids(device)


def _sglang_python(root: Path, args: argparse.Namespace, device: Device) -> str:
    if args.sglang_python is not None:
        return str(args.sglang_python)
    if device is Device.CPU:
        return prepare.sglang_venv_python(root)
    return "python3" if args.dry_run else prepare.accelerator_python(device)


def _router_python(root: Path, args: argparse.Namespace) -> str:
    if args.router_python is not None:
        return str(args.router_python)
    return "python3" if args.dry_run else prepare.ensure_router_python(root)


def _describe_running(spec: ClusterSpec, plan: ClusterPlan) -> str:
    lines = [f"{server.name:12} {server.url}" for server in plan.servers]
    front = plan.router
    if front is not None:
        metrics_port = spec.prometheus_port
        lines.append(f"{front.name:12} {front.url}  (metrics: port {metrics_port}, /metrics)")
    elif spec.num_prefill == 0:
        front = plan.servers[0]
    lines.append(f"{'logs':12} {spec.log_dir}")
    if front is not None:
        lines += ["", "Try it from another terminal:", f"  {_curl(spec, front.url)}"]
    if spec.seed_weights:
        lines += ["", "Start more servers with the weights of these:", f"  {_more(spec, plan)}"]
    return "\n".join([*lines, "", "Ctrl-C stops everything."])


def _more(spec: ClusterSpec, plan: ClusterPlan) -> str:
    prefix = netns.shell_prefix(os.getpid()) if netns.is_isolated() else ""
    next_port = spec.base_port + PORTS_PER_SERVER * len(plan.servers)
    return (
        f"{prefix}{sys.argv[0]} --bootstrap-from {plan.servers[0].url} --base-port {next_port} ..."
    )


def _curl(spec: ClusterSpec, url: str) -> str:
    body = {
        "model": spec.served_model_name or spec.model_path,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 16,
        "stream": True,
    }
    prefix = netns.shell_prefix(os.getpid()) if netns.is_isolated() else ""
    return (
        f"{prefix}curl -N {url}/v1/chat/completions -H 'Content-Type: application/json' "
        f"-d {shlex.quote(json.dumps(body))}"
    )


def _parser(weight_flags: WeightBootstrapFlags) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launch_pd_cluster",
        description="Starts SGLang prefill and decode servers and the router on this machine, and "
        "stops all of them on Ctrl-C. On a CPU, SGLang and a tiny model are made on first use.",
    )
    _add_shape_flags(parser.add_argument_group("what to run"))
    _add_server_flags(parser.add_argument_group("servers"))
    weights = parser.add_argument_group("weights")
    _add_weight_flags(weights)
    weight_flags.add_flags(weights)
    _add_router_flags(parser.add_argument_group("router"))
    _add_run_flags(parser.add_argument_group("running"))
    return parser


def _add_shape_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--prefill", type=int, metavar="N", help="prefill servers (1)")
    group.add_argument("--decode", type=int, metavar="M", help="decode servers (1)")
    group.add_argument(
        "--regular", type=int, default=0, metavar="K", help="servers that do both, instead (0)"
    )
    group.add_argument("--model-path", help="model folder or hub id (cpu: a tiny random model)")
    group.add_argument("--served-model-name", help="what clients call the model")
    group.add_argument(
        "--device", choices=("auto", *Device), default="auto", help="what to compute on (auto)"
    )
    group.add_argument("--tp-size", type=int, default=1, help="accelerators per server (1)")
    group.add_argument(
        "--device-ids", metavar="0,1,...", help="accelerators to use (all, or those made visible)"
    )


def _add_server_flags(group: argparse._ArgumentGroup) -> None:
    backends = sorted({backend for names in TRANSFER_BACKENDS.values() for backend in names})
    group.add_argument("--sglang-python", help="interpreter that has SGLang (cpu: .venv-sglang's)")
    group.add_argument(
        "--server-args", default="", metavar="'...'", help="SGLang flags for all servers, quoted"
    )
    group.add_argument(
        "--prefill-args", default="", metavar="'...'", help="SGLang flags for prefill servers"
    )
    group.add_argument(
        "--decode-args", default="", metavar="'...'", help="SGLang flags for decode servers"
    )
    group.add_argument(
        "--transfer-backend",
        choices=backends,
        help="how KV is handed over (cpu and cuda: mooncake, npu: ascend)",
    )
    group.add_argument("--ib-device", help="RDMA devices for the hand-over, as SGLang takes them")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    group.add_argument(
        "--base-port",
        type=int,
        default=21000,
        help="first port; every server takes ten (%(default)s)",
    )


def _add_weight_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--seed-weights",
        action="store_true",
        help="let servers that are started later take the weights from these. Implied by "
        "--bootstrap-from. Not by default: Mooncake asks nobody who he is, so whoever reaches its "
        "ports reads the weights, and writes them",
    )


def _add_router_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--no-router", action="store_true", help="start the servers alone")
    group.add_argument("--router-python", help="interpreter that has hfx_router (.venv's)")
    group.add_argument(
        "--router-port", type=int, default=30000, help="where clients connect (%(default)s)"
    )
    group.add_argument(
        "--prometheus-port", type=int, default=29000, help="the router's metrics (%(default)s)"
    )
    group.add_argument("--router-args", default="", metavar="'...'", help="hfx-router flags")


def _add_run_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dry-run", action="store_true", help="print the commands, start nothing")
    group.add_argument(
        "--ready-timeout-secs",
        type=float,
        default=600.0,
        help="how long starting may take (%(default)s)",
    )
    group.add_argument("--log-dir", type=Path, help="folder for the logs (.hfx/logs)")
    group.add_argument(
        "--no-netns",
        dest="netns",
        action="store_false",
        help="cpu, as root: stay in this network namespace, where Mooncake listens on all "
        "interfaces and the model may come from a hub",
    )
