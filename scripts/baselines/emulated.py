"""One load test of emulated workers behind the real router: real processes, sockets and time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from baselines.shapes import Shape

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan, plan_router
from hfx_sgl.types import Role

_PORTS_PER_WORKER = 10
_ROUTER_OFFSET = 900
_READY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """What is asked of which cluster."""

    shape: Shape
    policy: str
    load_factor: float
    seed: int
    duration_s: float
    profile: str

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.shape.label}_{self.policy}_{self.load_factor:g}x_seed{self.seed}".lower()

    @property
    def workload_flags(self) -> list[str]:
        """The flags by which simulator and load test know the workload."""
        return [
            *("--load-factor", f"{self.load_factor:g}", "--seed", str(self.seed)),
            *("--duration", f"{self.duration_s:g}"),
        ]


def run_emulated(point: LoadPoint, folder: Path, *, base_port: int) -> bool:
    """Run the load test into `folder`; returns whether the run is valid.

    Raises:
        LaunchError: the cluster did not start, or the load test could not be carried out.
    """
    with _running_cluster(point, folder.parent / "logs", base_port) as url:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "hfx_sgl.loadtest", "--base-url", url),
                *point.workload_flags,
                *("--output", str(folder), "--policy", point.policy),
                *("--cluster", point.shape.label, "--profile", point.profile),
            ],
            stdout=subprocess.DEVNULL,
            check=False,
        )
    if not (folder / "run.json").exists():
        raise LaunchError(f"the load test of {point.name} ended with status {done.returncode}")
    return done.returncode == 0


@contextmanager
def _running_cluster(point: LoadPoint, log_dir: Path, base_port: int) -> Iterator[str]:
    """Run emulated workers and a router in front of them; yields the router's URL."""
    shape = point.shape
    log_dir.mkdir(parents=True, exist_ok=True)
    roles = (
        [Role.REGULAR] * shape.num_workers
        + [Role.PREFILL] * shape.num_prefill
        + [Role.DECODE] * shape.num_decode
    )
    workers = [
        _worker_plan(role, base_port + _PORTS_PER_WORKER * slot, str(log_dir / "emulator.log"))
        for slot, role in enumerate(roles)
    ]
    emulator = InstancePlan(
        name="emulator",
        role=None,
        argv=(
            *(sys.executable, "-m", "hfx_sgl.emulator", *shape.flags),
            *("--profile", point.profile, "--base-port", str(base_port)),
        ),
        url=workers[0].url,
        log_path=workers[0].log_path,
    )
    router = plan_router(
        workers,
        python=sys.executable,
        port=base_port + _ROUTER_OFFSET,
        prometheus_port=base_port + _ROUTER_OFFSET + 1,
        extra_args=(
            *("--policy", point.policy, "--log-level", "warn"),
            "--response-worker-headers",
        ),
        log_path=str(log_dir / "router.log"),
    )
    plan = ClusterPlan(device=Device.CPU, servers=(), router=None)
    with Cluster(plan, ready_timeout_s=_READY_TIMEOUT_S) as cluster:
        cluster.add(emulator)
        cluster.add(router)
        yield router.url
        if ended := cluster.poll():
            raise LaunchError(f"ended during the load test: {ended}")


def _worker_plan(role: Role, port: int, log_path: str) -> InstancePlan:
    """Return an emulated worker as the router's plan needs it: where it is, and its role."""
    return InstancePlan(
        name=f"{role}-{port}",
        role=role,
        argv=(),
        url=f"http://127.0.0.1:{port}",
        bootstrap_port=port + 1,
        log_path=log_path,
    )
