"""The servers of a comparison: SGLang on this machine's CPU, or emulated ones. 2 prefill, 2 decode.

A CPU computes tiny prompts in no time that could be relied on, so each forward step of a prefill
server sleeps, as SGLang's `/slow_down` has it, and takes no more than a chunk of tokens.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch import netns, prepare
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan, plan_cluster
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.types import Role

NUM_PREFILL = NUM_DECODE = 2
CHUNK_FLAGS = ("--chunked-prefill-size", "512")
EMULATED_CHUNK_FLAGS = ("--chunked-prefill-size", "128")
"""The tiny model's tokenizer makes about four tokens of a word, emulated servers count one."""
_PORTS_PER_SERVER = 10
_ROUTER_OFFSET = 700
_EMULATOR_FLAGS = {Role.PREFILL: "--prefill", Role.DECODE: "--decode"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Servers that run, and where to put routers in front of them."""

    cluster: Cluster
    servers: tuple[InstancePlan, ...]
    router_port: int
    """The first of two ports for each router."""
    log_dir: Path


@contextmanager
def real_site(root: Path, log_dir: Path, base_port: int) -> Iterator[Site]:
    """Run SGLang with a tiny model of random weights, in a network of its own where possible.

    Raises:
        LaunchError: a server did not start.
    """
    python = prepare.sglang_venv_python(root)
    prepare.ensure_sglang_cpu(root)
    prepare.ensure_tiny_model(root, python)
    if netns.can_isolate():
        netns.isolate()  # Mooncake listens on every interface that there is
    spec = ClusterSpec(
        model_path=prepare.tiny_model_path(root),
        served_model_name=prepare.TINY_MODEL_NAME,
        num_prefill=NUM_PREFILL,
        num_decode=NUM_DECODE,
        sglang_python=python,
        server_args=CHUNK_FLAGS,
        base_port=base_port,
        log_dir=str(log_dir),
    )
    plan = plan_cluster(spec)
    with Cluster(plan) as cluster:
        yield _site(cluster, plan.servers, base_port, log_dir)


@contextmanager
def emulated_site(log_dir: Path, base_port: int) -> Iterator[Site]:
    """Run emulated servers, each a process of its own.

    Raises:
        LaunchError: a server did not start.
    """
    roles = [Role.PREFILL] * NUM_PREFILL + [Role.DECODE] * NUM_DECODE
    servers = tuple(
        plan_emulated(role, slot, log_dir, base_port) for slot, role in enumerate(roles)
    )
    with Cluster(ClusterPlan(device=Device.CPU, servers=(), router=None)) as cluster:
        cluster.add(*servers)
        yield _site(cluster, servers, base_port, log_dir)


def plan_emulated(role: Role, slot: int, log_dir: Path, base_port: int) -> InstancePlan:
    """Return the plan for one emulated server."""
    port = base_port + _PORTS_PER_SERVER * slot
    name = f"{role.value}-{slot}"
    shape = (_EMULATOR_FLAGS[role], "1", "--host", "127.0.0.1", "--base-port", str(port))
    model = ("--served-model-name", prepare.TINY_MODEL_NAME, *EMULATED_CHUNK_FLAGS)
    return InstancePlan(
        name=name,
        role=role,
        argv=(sys.executable, "-m", "hfx_sgl.emulator", *shape, *model),
        url=f"http://127.0.0.1:{port}",
        bootstrap_port=port + 1,
        log_path=str(log_dir / f"{name}.log"),
    )


def _site(
    cluster: Cluster, servers: tuple[InstancePlan, ...], base_port: int, log_dir: Path
) -> Site:
    return Site(
        cluster=cluster,
        servers=servers,
        router_port=base_port + _ROUTER_OFFSET,
        log_dir=log_dir,
    )


def slow_down(servers: tuple[InstancePlan, ...], step_s: float) -> None:
    """Make each forward step of the prefill servers this much longer."""
    prefills = [server for server in servers if server.role is Role.PREFILL]
    asyncio.run(_post_to_all(prefills, "/slow_down", {"forward_sleep_time": step_s}))


def flush_caches(servers: tuple[InstancePlan, ...]) -> None:
    """Have idle servers forget the prompts that they know."""
    asyncio.run(_post_to_all(servers, "/flush_cache?timeout=10", {}))


async def _post_to_all(
    servers: "tuple[InstancePlan, ...] | list[InstancePlan]", path: str, body: dict[str, float]
) -> None:
    async with aiohttp.ClientSession() as session:
        for server in servers:
            async with session.post(server.url + path, json=body) as answer:
                if answer.status != 200:
                    raise LaunchError(f"{server.url}{path}: HTTP {answer.status}")
