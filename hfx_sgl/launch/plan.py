"""Decides what to run: a cluster's specification in, the exact commands out. No I/O.

Ports are dealt in slots of ten from `base_port`, one slot for each server, so that every port
is known beforehand and none falls into the range that the kernel hands out (32768 and above),
where SGLang and Mooncake take dozens at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hfx_sgl.errors import ConfigError
from hfx_sgl.launch.devices import (
    TRANSFER_BACKENDS,
    Device,
    device_selection,
    server_env,
    server_flags,
)
from hfx_sgl.launch.spec import PORTS_PER_SERVER, ClusterSpec, check_spec
from hfx_sgl.types import Role

_BOOTSTRAP_OFFSET = 1
_NCCL_OFFSET = 2
_WEIGHTS_OFFSET = 3
_STORE_OFFSET = 5
"""The first slot also holds the one port that belongs to the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstancePlan:
    """One process to start: a server, or the router."""

    name: str
    role: Role | None
    """None for the router."""
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What is set on top of the environment that the launcher runs in."""
    url: str
    ready_path: str = "/health"
    """Answers 200 as soon as requests can be served."""
    bootstrap_port: int | None = None
    """Where a prefill server arranges hand-offs; None for regular servers and the router."""
    log_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Everything to start. The router comes last, when its servers answer."""

    device: Device
    servers: tuple[InstancePlan, ...]
    router: InstancePlan | None


def plan_cluster(spec: ClusterSpec) -> ClusterPlan:
    """Return the plan for `spec`.

    Raises:
        ConfigError: the shape is impossible; one problem for each field at fault.
    """
    problems = check_spec(spec)
    if problems:
        raise ConfigError(*problems)
    servers: list[InstancePlan] = []
    first_device = 0
    for role, count in spec.counts():
        for ordinal in range(count):
            slot = len(servers)
            server = plan_server(spec, role, ordinal=ordinal, slot=slot, first_device=first_device)
            servers.append(server)
            first_device += spec.num_devices(role)
    router = None
    if spec.router_python is not None:
        router = plan_router(
            servers,
            python=spec.router_python,
            host=spec.host,
            port=spec.router_port,
            prometheus_port=spec.prometheus_port,
            extra_args=spec.router_args,
            log_path=f"{spec.log_dir}/router.log",
        )
    return ClusterPlan(device=spec.device, servers=tuple(servers), router=router)


def plan_server(
    spec: ClusterSpec, role: Role, *, ordinal: int, slot: int, first_device: int = 0
) -> InstancePlan:
    """Return the plan for one server of `spec`, also for one beyond its counts.

    Args:
        ordinal: its number within the role, which becomes part of its name.
        slot: its number within the cluster, which decides its ports.
        first_device: how many accelerators the servers before it use.
    """
    backend = spec.transfer_backend or TRANSFER_BACKENDS[spec.device][0]
    port = spec.base_port + PORTS_PER_SERVER * slot
    ids = _deal_devices(spec.device_ids, first_device, spec.num_devices(role))
    selection_env, selection_flags = device_selection(spec.device, backend, ids)
    env = server_env(
        spec.device,
        host=spec.host,
        transfer_backend=backend,
        store_port=spec.base_port + _STORE_OFFSET,
    )
    if spec.store_url is not None and "ASCEND_MF_STORE_URL" in env:
        env["ASCEND_MF_STORE_URL"] = spec.store_url
    if spec.model_path.startswith("/"):
        # A model on disk needs no hub, and looking for one costs seconds at every start.
        env["HF_HUB_OFFLINE"] = "1"
    argv = [spec.sglang_python, "-m", "sglang.launch_server", "--model-path", spec.model_path]
    if spec.served_model_name is not None:
        argv += ["--served-model-name", spec.served_model_name]
    argv += ["--host", spec.host, "--port", str(port), "--nccl-port", str(port + _NCCL_OFFSET)]
    argv += ["--tp-size", str(spec.tp_size)]
    argv += server_flags(spec.device, role, transfer_backend=backend, ib_device=spec.ib_device)
    bootstrap_port = None
    if role is not Role.REGULAR:
        # Decode servers get one too: it is in use as soon as they are flipped to prefill.
        bootstrap_port = port + _BOOTSTRAP_OFFSET
        argv += ["--disaggregation-bootstrap-port", str(bootstrap_port)]
    if spec.seed_weights:
        argv += [
            "--remote-instance-weight-loader-start-seed-via-transfer-engine",
            # SGLang's default is the same for every server of a host, where one could have it.
            "--engine-info-bootstrap-port",
            str(port + _WEIGHTS_OFFSET),
        ]
    name = f"{role.value}-{ordinal}"
    return InstancePlan(
        name=name,
        role=role,
        argv=(*argv, *selection_flags, *spec.extra_args(role)),
        env=MappingProxyType(env | selection_env),
        url=http_url(spec.host, port),
        bootstrap_port=bootstrap_port,
        log_path=f"{spec.log_dir}/{name}.log",
    )


def plan_router(
    servers: Sequence[InstancePlan],
    *,
    python: str,
    host: str = "127.0.0.1",
    port: int,
    prometheus_port: int,
    extra_args: Sequence[str] = (),
    log_path: str,
    name: str = "router",
) -> InstancePlan:
    """Return the plan for a router in front of `servers`, which are all regular or none is."""
    argv = [python, "-m", "hfx_router.launch_router", "--host", host, "--port", str(port)]
    argv += ["--prometheus-host", host, "--prometheus-port", str(prometheus_port)]
    regular = [server.url for server in servers if server.role is Role.REGULAR]
    if regular:
        argv += ["--worker-urls", *regular]
    else:
        argv.append("--pd-disaggregation")
        for server in servers:
            if server.role is Role.PREFILL:
                argv += ["--prefill", server.url, str(server.bootstrap_port)]
            else:
                argv += ["--decode", server.url]
    return InstancePlan(
        name=name,
        role=None,
        argv=(*argv, *extra_args),
        url=http_url(host, port),
        ready_path="/readiness",
        log_path=log_path,
    )


def http_url(host: str, port: int) -> str:
    """Return the URL of a server, an IPv6 host in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _deal_devices(ids: tuple[str, ...] | None, first: int, count: int) -> tuple[str, ...]:
    if ids is None:
        return tuple(str(number) for number in range(first, first + count))
    return ids[first : first + count]
