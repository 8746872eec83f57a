"""What routers and servers still hold when all requests are over: it has to become nothing."""

import asyncio
import re
from collections.abc import Iterable

import aiohttp

from hfx_sgl.clock import Clock
from hfx_sgl.launch.plan import InstancePlan

_POLL_S = 0.1
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_GAUGES = ("hfx_router_inflight_requests", "hfx_worker_inflight_requests")
_COUNTERS = ("num_running_reqs", "num_waiting_reqs", "num_active_tokens")
_SAMPLE = re.compile(rf"^({'|'.join(_GAUGES)})(\{{[^}}]*\}})? (\S+)$", re.MULTILINE)


async def what_remains(
    servers: Iterable[InstancePlan], metrics_url: str, clock: Clock, patience_s: float
) -> dict[str, float]:
    """Wait until nothing is held; return what is held all the same after `patience_s`."""
    servers = tuple(servers)
    deadline_s = clock.now_s() + patience_s
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        while True:
            held = await _held_by_router(session, metrics_url)
            for server in servers:
                held |= await _held_by_server(session, server)
            if not held or clock.now_s() > deadline_s:
                return held
            await asyncio.sleep(_POLL_S)


async def _held_by_router(session: aiohttp.ClientSession, metrics_url: str) -> dict[str, float]:
    async with session.get(metrics_url + "/metrics") as answer:
        samples = _SAMPLE.findall(await answer.text())
    if {name for name, _, _ in samples} != set(_GAUGES):
        return {f"{metrics_url} does not tell": 1.0}
    return {name + labels: float(value) for name, labels, value in samples if float(value)}


async def _held_by_server(session: aiohttp.ClientSession, server: InstancePlan) -> dict[str, float]:
    async with session.get(server.url + "/v1/loads?include=core") as answer:
        [load] = (await answer.json())["loads"]
    return {f"{server.name} {name}": load[name] for name in _COUNTERS if load[name]}
