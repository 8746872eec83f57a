"""Real SGLang servers and routers in front of them, for end-to-end tests."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hfx_sgl.launch import netns, prepare
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.plan import InstancePlan, plan_cluster, plan_router, plan_server
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.types import Role

ROOT = Path(__file__).resolve().parents[2]
FIRST_FREE_SLOT = 5
"""Two prefill servers, two decode servers and one unified server take the slots before it."""
PD_ROUTER_PORT = 21_700
UNIFIED_ROUTER_PORT = 21_710
_ROUTER_ARGS = ("--policy", "round_robin", "--response-worker-headers")


@dataclass(slots=True)
class Fleet:
    """The running servers, the routers in front of them, and a way to add more of either."""

    cluster: Cluster
    spec: ClusterSpec
    next_slot: int = FIRST_FREE_SLOT
    next_router_port: int = 21_720

    def url(self, name: str) -> str:
        """Return the URL of a running process."""
        return self.cluster.urls[name]

    def add_server(self, role: Role) -> InstancePlan:
        """Start one more server, for a test that is going to kill it."""
        slot = self.next_slot
        self.next_slot += 1
        plan = plan_server(self.spec, role, ordinal=slot, slot=slot)
        self.cluster.add(plan)
        return plan

    def add_router(self, servers: list[InstancePlan], *args: str) -> str:
        """Start a router in front of some servers and return its URL."""
        port = self.next_router_port
        self.next_router_port += 2
        plan = self.plan_router(servers, port, f"router-{port}", *args)
        self.cluster.add(plan)
        return plan.url

    def plan_router(
        self, servers: list[InstancePlan], port: int, name: str, *args: str
    ) -> InstancePlan:
        """Return the plan for a router of this fleet."""
        return plan_router(
            servers,
            python=sys.executable,
            port=port,
            prometheus_port=port + 1,
            extra_args=args,
            log_path=f"{self.spec.log_dir}/{name}.log",
            name=name,
        )


@contextmanager
def running_fleet(log_dir: Path) -> Iterator[Fleet]:
    """Run 2 prefill, 2 decode and 1 unified server, and a router in front of each kind."""
    if netns.can_isolate():
        netns.isolate()
    python = prepare.sglang_venv_python(ROOT)
    prepare.ensure_tiny_model(ROOT, python)
    spec = ClusterSpec(
        model_path=prepare.tiny_model_path(ROOT),
        served_model_name=prepare.TINY_MODEL_NAME,
        num_prefill=2,
        num_decode=2,
        num_regular=1,
        sglang_python=python,
        router_python=None,
        log_dir=str(log_dir),
    )
    plan = plan_cluster(spec)
    pairs = [server for server in plan.servers if server.role is not Role.REGULAR]
    unified = [server for server in plan.servers if server.role is Role.REGULAR]
    with Cluster(plan) as cluster:
        fleet = Fleet(cluster, spec)
        cluster.add(
            fleet.plan_router(pairs, PD_ROUTER_PORT, "router-pd", *_ROUTER_ARGS),
            fleet.plan_router(unified, UNIFIED_ROUTER_PORT, "router-unified", *_ROUTER_ARGS),
        )
        yield fleet
        ended = [instance.plan.name for instance in cluster.poll()]
        assert not ended, f"ended unasked: {ended}"
