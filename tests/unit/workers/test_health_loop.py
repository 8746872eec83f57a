import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hfx_router.workers.health_loop import HealthLoop
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import HealthOverrides, Worker, WorkerSpec

from hfx_sgl.clock import FakeClock
from hfx_sgl.types import Role

RunVirtual = Callable[[Coroutine[Any, Any, None]], None]


class FakeServers:
    """Answers health checks: `dead` urls fail, `raising` urls raise. Notes who was asked when."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.raising: set[str] = set()
        self.answer_s = 0.0
        self.asked: list[tuple[str, float, float]] = []
        self.num_asking = 0
        self.max_asking = 0

    async def is_alive(self, spec: WorkerSpec, timeout_s: float) -> bool:
        self.asked.append((spec.url, asyncio.get_running_loop().time(), timeout_s))
        self.num_asking += 1
        self.max_asking = max(self.max_asking, self.num_asking)
        await asyncio.sleep(self.answer_s)
        self.num_asking -= 1
        if spec.url in self.raising:
            raise RuntimeError("boom")
        return spec.url not in self.dead

    def times_s(self, url: str) -> list[float]:
        return [at_s for asked, at_s, _ in self.asked if asked == url]


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


@pytest.fixture
def checked() -> list[tuple[Role, bool]]:
    return []


@pytest.fixture
def loop_of(
    registry: Registry, servers: FakeServers, checked: list[tuple[Role, bool]]
) -> Callable[..., HealthLoop]:
    def build(**settings: Any) -> HealthLoop:
        return HealthLoop(
            registry,
            servers.is_alive,
            Random(1),
            lambda role, ok: checked.append((role, ok)),
            **settings,
        )

    return build


def add(registry: Registry, spec: WorkerSpec) -> Worker:
    worker = registry.new_worker(f"{spec.url}@{spec.dp_rank}", spec)
    worker.is_probed = True
    registry.add(worker)
    return worker


def test_every_worker_is_checked_each_interval_from_a_start_of_its_own(
    registry: Registry,
    servers: FakeServers,
    checked: list[tuple[Role, bool]],
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    urls = [f"http://w{n}:1" for n in range(4)]

    async def main() -> None:
        for url in urls[:3]:
            add(registry, WorkerSpec(url=url))
        loop = loop_of(interval_s=60.0, timeout_s=7.0)
        loop.start()
        add(registry, WorkerSpec(url=urls[3]))  # one that comes later
        await asyncio.sleep(300)
        await loop.stop()

    run_virtual(main())
    starts_s = set()
    for url in urls:
        times_s = servers.times_s(url)
        starts_s.add(times_s[0])
        assert 0 <= times_s[0] <= 60
        assert [b - a for a, b in pairwise(times_s)] == pytest.approx([60] * (len(times_s) - 1))
        assert len(times_s) >= 4
    assert len(starts_s) == 4
    assert {timeout_s for _, _, timeout_s in servers.asked} == {7.0}
    assert checked == [(Role.REGULAR, True)] * len(servers.asked)


def test_unhealthy_worker_is_found_and_comes_back_soon(
    registry: Registry,
    servers: FakeServers,
    checked: list[tuple[Role, bool]],
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        sick = add(registry, WorkerSpec(url="http://sick:1"))
        well = add(registry, WorkerSpec(url="http://well:1"))
        loop = loop_of(interval_s=60.0)
        servers.dead.add("http://sick:1")
        loop.start()
        await asyncio.sleep(200)
        assert registry.usable(Role.REGULAR) == (well,)
        servers.dead.clear()
        await asyncio.sleep(11)
        assert registry.usable(Role.REGULAR) == (sick, well)
        await loop.stop()

    run_virtual(main())
    assert (Role.REGULAR, False) in checked


def test_suspicion_brings_a_check_at_once_and_then_spaced_ones(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        worker = add(registry, WorkerSpec(url="http://w:1"))
        loop = loop_of(interval_s=3600.0)
        loop.start()
        for _ in range(1000):  # 10 s of a client that provokes a 5xx every 10 ms
            registry.suspect(worker)
            await asyncio.sleep(0.01)
        await loop.stop()

    run_virtual(main())
    times_s = servers.times_s("http://w:1")
    assert times_s[0] < 0.02
    assert 9 <= len(times_s) <= 11


def test_suspicion_during_a_check_starts_no_second_one(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        worker = add(registry, WorkerSpec(url="http://w:1"))
        servers.answer_s = 4.0
        loop = loop_of(interval_s=3600.0)
        loop.start()
        registry.suspect(worker)
        await asyncio.sleep(1)
        for _ in range(5):
            registry.suspect(worker)
        await asyncio.sleep(100)
        await loop.stop()

    run_virtual(main())
    assert len(servers.asked) == 1
    assert servers.max_asking == 1


def test_unexpected_exception_does_not_end_the_checks(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        worker = add(registry, WorkerSpec(url="http://w:1"))
        servers.raising.add("http://w:1")
        loop = loop_of(interval_s=10.0)
        loop.start()
        await asyncio.sleep(100)
        assert registry.usable(Role.REGULAR) == (worker,)
        await loop.stop()

    run_virtual(main())
    assert len(servers.asked) >= 9


def test_ranks_of_one_server_share_a_check(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        spec = WorkerSpec(url="http://w:1")
        for rank in range(4):
            add(registry, replace(spec, dp_rank=rank))
        servers.dead.add("http://w:1")
        loop = loop_of(interval_s=10.0)
        loop.start()
        await asyncio.sleep(40)
        assert registry.usable(Role.REGULAR) == ()
        await loop.stop()

    run_virtual(main())
    assert len(servers.asked) <= 10


def test_overrides_of_one_worker(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        health = HealthOverrides(interval_s=5.0, timeout_s=2.0)
        add(registry, WorkerSpec(url="http://w:1", health=health))
        loop = loop_of(interval_s=600.0)
        loop.start()
        await asyncio.sleep(50)
        await loop.stop()

    run_virtual(main())
    assert 9 <= len(servers.asked) <= 11
    assert {timeout_s for _, _, timeout_s in servers.asked} == {2.0}


@pytest.mark.parametrize("gone", ["removed", "draining", "disabled"])
def test_worker_that_is_out_is_not_checked(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
    gone: str,
) -> None:
    async def main() -> None:
        worker = add(registry, WorkerSpec(url="http://w:1"))
        loop = loop_of(interval_s=10.0)
        loop.start()
        await asyncio.sleep(25)
        match gone:
            case "removed":
                registry.remove(worker.worker_id)
            case "draining":
                registry.drain(worker)
            case "disabled":
                registry.update(worker, replace(worker.spec, disable_health_check=True))
        num_asked = len(servers.asked)
        assert num_asked >= 2
        registry.suspect(worker)
        await asyncio.sleep(100)
        assert len(servers.asked) == num_asked
        await loop.stop()

    run_virtual(main())


def test_disabled_loop_checks_nobody_and_still_half_opens_breakers(
    registry: Registry,
    servers: FakeServers,
    clock: FakeClock,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        worker = add(registry, WorkerSpec(url="http://w:1"))
        loop = loop_of(interval_s=10.0, is_enabled=False)
        loop.start()
        for _ in range(3):
            registry.record_failure(worker)
        assert registry.usable(Role.REGULAR) == ()
        clock.advance(10.0)
        await asyncio.sleep(1)
        assert registry.usable(Role.REGULAR) == (worker,)
        await asyncio.sleep(100)
        await loop.stop()

    run_virtual(main())
    assert servers.asked == []


def test_stop_leaves_no_task_and_hears_no_more(
    registry: Registry,
    servers: FakeServers,
    loop_of: Callable[..., HealthLoop],
    run_virtual: RunVirtual,
) -> None:
    async def main() -> None:
        add(registry, WorkerSpec(url="http://w:1"))
        servers.answer_s = 1000.0
        loop = loop_of(interval_s=1.0)
        loop.start()
        await asyncio.sleep(10)
        await loop.stop()
        add(registry, WorkerSpec(url="http://v:1"))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
