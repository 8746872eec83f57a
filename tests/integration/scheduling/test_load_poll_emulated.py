"""The poller in front of emulated servers: what it tells is what the engine counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hfx_router.outbox import TurnOutbox
from hfx_router.scheduling.load_line import LoadLine
from hfx_router.scheduling.load_poll import LoadPoller
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec
from support.ask import Json, post
from support.emulators import running_pair, running_worker, url_of
from support.router import eventually

from hfx_sgl.clock import WallClock
from hfx_sgl.emulator.worker import Worker
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.scheduler.facts import WorkerReport

Told = dict[str, WorkerReport]


@asynccontextmanager
async def polling(*workers: Worker) -> AsyncIterator[Told]:
    """Poll these workers; yields the last answer of each by its URL."""
    told: Told = {}
    clock = WallClock()
    registry = Registry(clock, BreakerConfig(), HealthConfig(), on_left=lambda worker: None)
    for worker in workers:
        record = registry.new_worker(url_of(worker), WorkerSpec(url=url_of(worker)))
        record.is_probed = True
        registry.add(record)
    outbox = TurnOutbox(asyncio.get_running_loop().call_soon)
    poller = LoadPoller(
        registry,
        lambda record: LoadLine(
            record.host, record.port, now_s=clock.now_s, outbox=outbox, connect_timeout_s=5.0
        ),
        lambda worker_id, report: told.update({worker_id: report}),
        interval_s=0.05,
        timeout_s=5.0,
        clock=clock,
    )
    poller.start()
    try:
        yield told
    finally:
        await poller.stop()


BODY: Json = {"text": "hello " * 50, "sampling_params": {"max_new_tokens": 20, "ignore_eos": True}}


async def test_the_sums_of_a_unified_worker() -> None:
    async with running_worker() as worker, polling(worker) as told:
        url = url_of(worker)
        assert await eventually(lambda: url in told)
        assert (told[url].num_prefill_tokens, told[url].prefill_busy_s) == (0, 0.0)
        assert (told[url].last_transfer_bytes, told[url].last_transfer_s) == (0, 0.0)
        await post(url, "/generate", BODY)
        moments = worker.driver.load().decode_moments
        assert await eventually(lambda: told[url].decode_moments == moments)
        report, load = told[url], worker.driver.load()
        assert report.num_prefill_tokens == load.total_prefill_uncached_tokens > 0
        assert report.prefill_busy_s == load.total_prefill_busy_us / 1e6 > 0
        assert len(report.decode_moments) == 6


async def test_the_context_of_what_runs() -> None:
    endless: Json = {**BODY, "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    async with running_worker() as worker, polling(worker) as told:
        url = url_of(worker)
        requests = [
            asyncio.create_task(post(url, "/generate", {**endless, "rid": f"r{n}"}))
            for n in range(2)
        ]
        assert await eventually(lambda: worker.driver.load().num_running_reqs == 2)
        assert await eventually(lambda: url in told and told[url].mean_context_tokens > 0)
        assert told[url].mean_context_tokens <= worker.driver.load().num_active_tokens
        for n in range(2):
            await post(url, "/abort_request", {"rid": f"r{n}"})
        await asyncio.gather(*requests)
        assert await eventually(lambda: told[url].mean_context_tokens == 0)


async def test_the_last_transfer_of_a_prefill_worker() -> None:
    async with (
        running_pair(handoff_latency_s=0.01) as (prefill, decode),
        polling(prefill, decode) as told,
    ):
        body = {
            **BODY,
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.settings.bootstrap_port,
            "bootstrap_room": 77,
        }
        await asyncio.gather(
            post(url_of(prefill), "/generate", body), post(url_of(decode), "/generate", body)
        )
        url = url_of(prefill)
        assert await eventually(lambda: url in told and told[url].last_transfer_bytes > 0)
        assert told[url].last_transfer_s >= 0.01
        num_tokens = prefill.driver.load().total_prefill_uncached_tokens
        assert told[url].last_transfer_bytes == pytest.approx(1000 * num_tokens, rel=0.01)
        assert told[url_of(decode)].last_transfer_bytes == 0
        assert told[url].decode_moments == ()
