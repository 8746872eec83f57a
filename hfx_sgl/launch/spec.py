"""What somebody wants to run, and whether it is possible. Pure."""

from dataclasses import dataclass

from hfx_sgl.launch.args import (
    PLANNED_ROUTER_FLAGS,
    PLANNED_SEED_FLAGS,
    PLANNED_SERVER_FLAGS,
    devices_needed,
    planned_flags_in,
)
from hfx_sgl.launch.devices import TRANSFER_BACKENDS, Device
from hfx_sgl.types import Role

PORTS_PER_SERVER = 10
MIN_PORT = 1024
MAX_PORT = 32767
"""The kernel hands out ports above it, and SGLang and Mooncake take dozens of those each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """What somebody wants to run; `check_spec` says whether it is possible."""

    model_path: str
    num_prefill: int = 1
    num_decode: int = 1
    num_regular: int = 0
    device: Device = Device.CPU
    host: str = "127.0.0.1"
    base_port: int = 21000
    tp_size: int = 1
    served_model_name: str | None = None
    """None leaves it to SGLang, which then names the model by its path."""
    device_ids: tuple[str, ...] | None = None
    """The accelerators to use, dealt in order; None counts from zero without an end."""
    transfer_backend: str | None = None
    """None takes the device's usual one."""
    ib_device: str | None = None
    """SGLang's `--disaggregation-ib-device`; None leaves the choice to the backend."""
    server_args: tuple[str, ...] = ()
    """SGLang flags for every server; those below for one role come after and win."""
    prefill_args: tuple[str, ...] = ()
    decode_args: tuple[str, ...] = ()
    sglang_python: str = "python3"
    router_python: str | None = None
    """The router's interpreter; None runs no router."""
    router_port: int = 30000
    prometheus_port: int = 29000
    router_args: tuple[str, ...] = ()
    log_dir: str = "logs"
    seed_weights: bool = False
    """Whether the servers offer their weights to servers that are started later."""
    is_joining: bool = False
    """Whether the servers join others that run elsewhere, so that one role alone makes sense."""
    store_url: str | None = None
    """Where the Ascend transfer engine keeps its directory of peers; None makes one of their own,
    which servers that join others cannot do."""

    def counts(self) -> tuple[tuple[Role, int], ...]:
        """Return how many servers of each role, in the order in which they are numbered."""
        return (
            (Role.PREFILL, self.num_prefill),
            (Role.DECODE, self.num_decode),
            (Role.REGULAR, self.num_regular),
        )

    @property
    def has_pairs(self) -> bool:
        """Whether KV is handed over from some servers or to some."""
        return self.num_prefill > 0 or self.num_decode > 0

    def extra_args(self, role: Role) -> tuple[str, ...]:
        """Return the flags passed through to a server of this role."""
        by_role = {Role.PREFILL: self.prefill_args, Role.DECODE: self.decode_args}
        return (*self.server_args, *by_role.get(role, ()))

    def num_devices(self, role: Role) -> int:
        """Return how many accelerators a server of this role takes."""
        return devices_needed(self.tp_size, self.extra_args(role))


def check_spec(spec: ClusterSpec) -> list[str]:
    """Return one `field: message` for each thing that is impossible."""
    return [
        *_check_model(spec),
        *_check_shape(spec),
        *_check_ports(spec),
        *_check_devices(spec),
        *_check_passed_flags(spec),
    ]


def _check_model(spec: ClusterSpec) -> list[str]:
    problems = []
    if not spec.model_path:
        problems.append("model_path: must name a model folder or hub id")
    if spec.host in ("", "0.0.0.0", "::"):
        problems.append(f"host: must be an address that the servers reach, not {spec.host!r}")
    return problems


def _check_shape(spec: ClusterSpec) -> list[str]:
    problems = []
    counts = {"num_prefill": spec.num_prefill, "num_decode": spec.num_decode}
    for name, count in {**counts, "num_regular": spec.num_regular, "tp_size": spec.tp_size}.items():
        least = 1 if name == "tp_size" else 0
        if count < least:
            problems.append(f"{name}: must be at least {least} ({count})")
    if not spec.is_joining:
        problems += _check_pairs(spec)
    if not any(count > 0 for _, count in spec.counts()):
        problems.append("num_regular: there is no server to start (0)")
    if spec.num_regular > 0 and spec.num_prefill > 0 and spec.router_python is not None:
        problems.append(
            "num_regular: one router serves prefill and decode servers or regular ones, not both; "
            "start without a router to have both"
        )
    return problems


def _check_pairs(spec: ClusterSpec) -> list[str]:
    problems = []
    if spec.num_prefill > 0 and spec.num_decode == 0:
        problems.append("num_decode: prefill servers need at least one decode server (0)")
    if spec.num_decode > 0 and spec.num_prefill == 0:
        problems.append("num_prefill: decode servers need at least one prefill server (0)")
    return problems


def _check_ports(spec: ClusterSpec) -> list[str]:
    problems = []
    num_servers = max(1, sum(count for _, count in spec.counts()))
    last_port = spec.base_port + PORTS_PER_SERVER * num_servers - 1
    if not MIN_PORT <= spec.base_port <= last_port <= MAX_PORT:
        problems.append(
            f"base_port: {num_servers} servers need ports {spec.base_port} to {last_port}, "
            f"which must lie within {MIN_PORT} to {MAX_PORT}"
        )
    if spec.router_python is None:
        return problems
    for name, port in (
        ("router_port", spec.router_port),
        ("prometheus_port", spec.prometheus_port),
    ):
        if not MIN_PORT <= port <= MAX_PORT:
            problems.append(f"{name}: must lie within {MIN_PORT} to {MAX_PORT} ({port})")
        elif spec.base_port <= port <= last_port:
            problems.append(
                f"{name}: {port} is among the servers' ports ({spec.base_port} to {last_port})"
            )
    if spec.router_port == spec.prometheus_port:
        problems.append(f"prometheus_port: must differ from router_port ({spec.router_port})")
    return problems


def _check_devices(spec: ClusterSpec) -> list[str]:
    problems = []
    backends = TRANSFER_BACKENDS[spec.device]
    if spec.transfer_backend is not None and spec.transfer_backend not in backends:
        problems.append(
            f"transfer_backend: {spec.device} has {', '.join(backends)}, "
            f"not {spec.transfer_backend!r}"
        )
    uses_store = spec.device is Device.NPU and spec.transfer_backend in (None, "ascend")
    if spec.is_joining and spec.store_url is None and uses_store and spec.has_pairs:
        problems.append(
            "store_url: servers that join others share their directory of peers; set "
            "ASCEND_MF_STORE_URL to what those have"
        )
    if spec.device is Device.CPU:
        if spec.tp_size > 1:
            problems.append(f"tp_size: must be 1 on a cpu ({spec.tp_size})")
        if spec.ib_device is not None:
            problems.append("ib_device: a cpu hands over by TCP and has none")
        return problems
    needed = sum(count * spec.num_devices(role) for role, count in spec.counts() if count > 0)
    if spec.device_ids is not None and needed > len(spec.device_ids):
        problems.append(
            f"device_ids: the servers need {needed} {spec.device} devices, "
            f"{len(spec.device_ids)} are given"
        )
    return problems


def _check_passed_flags(spec: ClusterSpec) -> list[str]:
    for_servers = PLANNED_SERVER_FLAGS | (PLANNED_SEED_FLAGS if spec.seed_weights else frozenset())
    passed = (
        ("server_args", spec.server_args, for_servers),
        ("prefill_args", spec.prefill_args, for_servers),
        ("decode_args", spec.decode_args, for_servers),
        ("router_args", spec.router_args, PLANNED_ROUTER_FLAGS),
    )
    problems = [
        f"{name}: {flag} is set by the launcher"
        for name, args, planned in passed
        for flag in planned_flags_in(args, planned)
    ]
    if spec.seed_weights:
        # SGLang says so in its log and goes on with nothing to offer.
        problems += [
            f"{name}: a server with --enable-memory-saver cannot offer its weights"
            for name, args, _ in passed
            if "--enable-memory-saver" in args
        ]
    return problems
