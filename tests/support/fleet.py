"""Servers, real or emulated, and routers in front of them, for end-to-end tests."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hfx_sgl.launch import netns, prepare
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import (
    ClusterPlan,
    InstancePlan,
    http_url,
    plan_cluster,
    plan_router,
    plan_server,
)
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.types import Role

ROOT = Path(__file__).resolve().parents[2]
REAL_BASE_PORT = 21_000
EMULATED_BASE_PORT = 28_000
"""Apart from all others: unlike real servers, emulated ones run in nobody's network namespace."""
_ROUTERS_OFFSET = 700
_HOST = "127.0.0.1"
_SHAPE = ((Role.PREFILL, 2), (Role.DECODE, 2), (Role.REGULAR, 1))
_EMULATOR_FLAGS = {Role.PREFILL: "--prefill", Role.DECODE: "--decode", Role.REGULAR: "--workers"}
_EMULATOR_ARGS = (
    "--served-model-name", prepare.TINY_MODEL_NAME, "--context-length", "4096",
    "--max-total-tokens", "16384", "--max-running-requests", "16",
    # As slow as the real one, so that a router that waits for it is found out.
    "--dead-peer-delay-s", "11",
)  # fmt: skip
_ROUTER_ARGS = ("--policy", "round_robin", "--response-worker-headers")


@dataclass(slots=True)
class Fleet:
    """The running servers, the routers in front of them, and a way to add more of either."""

    cluster: Cluster
    plan_one: Callable[[Role, int, int], InstancePlan]
    """Plans a server by its role, its number within the role and its slot of ports."""
    log_dir: Path
    base_port: int
    next_slot: int = sum(count for _, count in _SHAPE)
    next_router: int = 0
    prometheus_ports: dict[str, int] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """Return the URL of a running process."""
        return self.cluster.urls[name]

    def add_server(self, role: Role) -> InstancePlan:
        """Start one more server, for a test that is going to kill it."""
        slot = self.next_slot
        self.next_slot += 1
        plan = self.plan_one(role, slot, slot)
        self.cluster.add(plan)
        return plan

    def add_router(self, servers: list[InstancePlan], *args: str, name: str | None = None) -> str:
        """Start a router in front of some servers and return its URL."""
        port = self.base_port + _ROUTERS_OFFSET + 2 * self.next_router
        self.next_router += 1
        name = name or f"router-{port}"
        self.prometheus_ports[name] = port + 1
        plan = plan_router(
            servers,
            python=sys.executable,
            port=port,
            prometheus_port=port + 1,
            extra_args=args,
            log_path=f"{self.log_dir}/{name}.log",
            name=name,
        )
        self.cluster.add(plan)
        return plan.url

    def metrics_url(self, name: str) -> str:
        """Return where a router serves its metrics."""
        return http_url(_HOST, self.prometheus_ports[name])


@contextmanager
def real_fleet(log_dir: Path) -> Iterator[Fleet]:
    """Run 2 prefill, 2 decode and 1 unified server, and a router in front of each kind."""
    if netns.can_isolate():
        netns.isolate()
    python = prepare.sglang_venv_python(ROOT)
    prepare.ensure_tiny_model(ROOT, python)
    counts = dict(_SHAPE)
    spec = ClusterSpec(
        model_path=prepare.tiny_model_path(ROOT),
        served_model_name=prepare.TINY_MODEL_NAME,
        num_prefill=counts[Role.PREFILL],
        num_decode=counts[Role.DECODE],
        num_regular=counts[Role.REGULAR],
        sglang_python=python,
        router_python=None,
        base_port=REAL_BASE_PORT,
        log_dir=str(log_dir),
    )
    plan = plan_cluster(spec)

    def plan_one(role: Role, ordinal: int, slot: int) -> InstancePlan:
        return plan_server(spec, role, ordinal=ordinal, slot=slot)

    with Cluster(plan) as cluster:
        fleet = Fleet(cluster, plan_one, log_dir, REAL_BASE_PORT)
        yield from _with_routers(fleet, list(plan.servers))


@contextmanager
def emulated_fleet(log_dir: Path) -> Iterator[Fleet]:
    """Run the same with emulated servers, each a process of its own, as it may be killed."""
    plan_one = partial(plan_emulated, log_dir)
    roles = [(role, ordinal) for role, count in _SHAPE for ordinal in range(count)]
    servers = [plan_one(role, ordinal, slot) for slot, (role, ordinal) in enumerate(roles)]
    with Cluster(ClusterPlan(device=Device.CPU, servers=(), router=None)) as cluster:
        cluster.add(*servers)
        yield from _with_routers(Fleet(cluster, plan_one, log_dir, EMULATED_BASE_PORT), servers)


def plan_emulated(log_dir: Path, role: Role, ordinal: int, slot: int) -> InstancePlan:
    """Return the plan for one emulated server."""
    port = EMULATED_BASE_PORT + 10 * slot
    name = f"{role.value}-{ordinal}"
    shape = (_EMULATOR_FLAGS[role], "1", "--host", _HOST, "--base-port", str(port))
    return InstancePlan(
        name=name,
        role=role,
        argv=(sys.executable, "-m", "hfx_sgl.emulator", *shape, *_EMULATOR_ARGS),
        url=http_url(_HOST, port),
        bootstrap_port=None if role is Role.REGULAR else port + 1,
        log_path=f"{log_dir}/{name}.log",
    )


def _with_routers(fleet: Fleet, servers: list[InstancePlan]) -> Iterator[Fleet]:
    pairs = [server for server in servers if server.role is not Role.REGULAR]
    unified = [server for server in servers if server.role is Role.REGULAR]
    fleet.add_router(pairs, *_ROUTER_ARGS, name="router-pd")
    fleet.add_router(unified, *_ROUTER_ARGS, name="router-unified")
    yield fleet
    ended = [instance.plan.name for instance in fleet.cluster.poll()]
    assert not ended, f"ended unasked: {ended}"
