"""Emulated workers in this process, on loopback ports of their own, with step times of a line."""

import itertools
import os
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from hfx_sgl.emulator.desk import HandoffTimes
from hfx_sgl.emulator.settings import ProfileFacts, WorkerSettings
from hfx_sgl.emulator.worker import Worker
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.types import Role

FIRST_PORT, LAST_PORT = 24_000, 26_900
"""Below the ephemeral range; apart from the ports of the other fakes."""
MODEL = "test-model"
CONTEXT_TOKENS = 4096

_SLOTS = itertools.count(random.Random(os.getpid()).randrange(200))


class FlatStepTimes:
    """A prompt takes 1 us for each token, a decode step always the same time."""

    def __init__(self, step_s: float = 0.002) -> None:
        self.step_s = step_s

    num_extrapolated = 0

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        return self.step_s + 1e-6 * sum(part.num_new_tokens for part in parts)

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        return self.prefill_s(parts)

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        return self.step_s

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        return self.step_s * num_steps

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        return int((duration_s + 1e-12) / (self.step_s + overhead_s))


def make_settings(role: Role = Role.REGULAR, **overrides: Any) -> WorkerSettings:
    """Return the settings of a fast worker. Fields of EngineSpec may be among the overrides."""
    names = set(EngineSpec.__dataclass_fields__)
    engine = {name: overrides.pop(name) for name in list(overrides) if name in names}
    engine = {
        "kv_capacity_tokens": 16_384,
        "max_context_tokens": CONTEXT_TOKENS,
        "kv_bytes_per_token": 1000,
        "host_overhead_s": 0.0,
        "host_overhead_per_request_s": 0.0,
        "handoff_latency_s": 0.0,
        "flip_s": 0.01,
        **engine,
    }
    port = free_pair()
    given: dict[str, Any] = {
        "name": f"{role.value}-{port}",
        "profile": ProfileFacts(
            name="flat", source="made up", model="org/model", device="no device", num_devices=1
        ),
        "spec": EngineSpec(role=role, **engine),
        "served_model_name": MODEL,
        "port": port,
        "bootstrap_port": port + 1,
        "handoff": HandoffTimes(dead_peer_delay_s=0.0),
        **overrides,
    }
    return WorkerSettings(**given)


@asynccontextmanager
async def running_worker(
    role: Role = Role.REGULAR, *, step_s: float = 0.002, **overrides: Any
) -> AsyncIterator[Worker]:
    """Run one worker and stop it at the end, whatever it is doing."""
    worker = Worker(make_settings(role, **overrides), FlatStepTimes(step_s))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def running_pair(
    *, step_s: float = 0.002, **overrides: Any
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Run a prefill and a decode worker."""
    async with (
        running_worker(Role.PREFILL, step_s=step_s, **overrides) as prefill,
        running_worker(Role.DECODE, step_s=step_s, **overrides) as decode,
    ):
        yield prefill, decode


def url_of(worker: Worker) -> str:
    """Return where a worker is reached."""
    return worker.settings.url


def is_free(worker: Worker) -> bool:
    """Whether a worker holds no request, no KV and no room."""
    load = worker.driver.load()
    held = load.num_active_tokens + load.num_running_reqs + load.num_waiting_reqs
    return worker.driver.is_idle and held == 0 and len(worker.desk.rooms) == 0


def free_pair() -> int:
    """Return a port that is free, as is the one after it."""
    while True:
        port = FIRST_PORT + 2 * (next(_SLOTS) % ((LAST_PORT - FIRST_PORT) // 2))
        if _is_free(port) and _is_free(port + 1):
            return port


def free_base(num_ports: int = 50) -> int:
    """Return the first of some ports in a row that are free."""
    for base in random.Random().sample(range(LAST_PORT + 10, 27_950, num_ports), 20):
        if all(map(_is_free, range(base, base + num_ports))):
            return base
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
