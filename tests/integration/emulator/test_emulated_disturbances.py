"""Faults, stalls, pauses and slow steps."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest
from support.ask import Json, get, post
from support.emulators import is_free, running_worker, url_of
from support.router import eventually

from hfx_sgl.emulator.faults import FaultPlan
from hfx_sgl.emulator.worker import Worker

BODY: Json = {"text": "hello", "sampling_params": {"max_new_tokens": 5, "ignore_eos": True}}


async def took_s(worker: Worker) -> float:
    """Return how long a request takes."""
    return (await post(url_of(worker), "/generate", BODY)).took_s


async def test_every_second_request_fails(worker: Worker) -> None:
    url = url_of(worker)
    shown = await post(url, "/emulated/faults", {"error_rate": 0.5, "error_status": 503})
    assert (shown.body["error_rate"], shown.body["stall"]) == (0.5, False)
    statuses = [(await post(url, "/generate", BODY)).status for _ in range(4)]
    assert statuses == [200, 503, 200, 503]
    assert (await get(url, "/health")).status == 200
    await post(url, "/emulated/faults", {"error_rate": 0})
    assert [(await post(url, "/generate", BODY)).status for _ in range(2)] == [200, 200]


async def test_a_reset_connection() -> None:
    async with running_worker(faults=FaultPlan(reset_rate=1.0)) as worker:
        with pytest.raises(aiohttp.ClientError):
            await post(url_of(worker), "/generate", BODY)
        assert (await get(url_of(worker), "/health")).status == 200


async def test_latency(worker: Worker) -> None:
    await post(url_of(worker), "/emulated/faults", {"latency_s": 0.2})
    assert await took_s(worker) >= 0.2


async def test_a_stall_ends_by_itself(worker: Worker) -> None:
    url = url_of(worker)
    await post(url, "/emulated/faults", {"stall_s": 0.3})
    assert (await get(url, "/health")).status == 503
    assert await took_s(worker) >= 0.25
    assert (await get(url, "/health")).status == 200


async def test_a_stall_lasts_until_it_is_ended(worker: Worker) -> None:
    url = url_of(worker)
    await post(url, "/emulated/faults", {"stall": True})
    request = asyncio.create_task(post(url, "/generate", BODY))
    await asyncio.sleep(0.2)
    assert not request.done()
    await post(url, "/emulated/faults", {"stall": False})
    assert (await request).status == 200


@pytest.mark.parametrize(
    "body", [{"error_rate": 3}, {"stall_s": 0}, {"stall_s": -1}, {"unknown": 1}, {"latency_s": "x"}]
)
async def test_bad_faults_change_nothing(worker: Worker, body: Json) -> None:
    url = url_of(worker)
    before = (await get(url, "/emulated/faults")).body
    assert (await post(url, "/emulated/faults", body)).status == 400
    assert (await get(url, "/emulated/faults")).body == before


async def test_death_resets_every_connection_and_frees_the_port() -> None:
    async with running_worker() as worker:
        body = {**BODY, "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True}}
        request = asyncio.create_task(post(url_of(worker), "/generate", body))
        await asyncio.sleep(0.05)
        with suppress(aiohttp.ClientError):
            await post(url_of(worker), "/emulated/faults", {"die": True})
        with pytest.raises(aiohttp.ClientError):
            await request
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(url_of(worker), "/health")
        assert await eventually(lambda: is_free(worker))


@pytest.mark.parametrize("mode", ["in_place", "retract"])
async def test_a_pause_holds_requests_and_continue_lets_them_go(worker: Worker, mode: str) -> None:
    url = url_of(worker)
    paused = await post(url, "/pause_generation", {"mode": mode})
    assert paused.body["status"] == "ok"
    request = asyncio.create_task(post(url, "/generate", BODY))
    await asyncio.sleep(0.1)
    assert not request.done()
    await post(url, "/continue_generation", {})
    assert (await request).status == 200


async def test_a_pause_that_aborts(worker: Worker) -> None:
    url = url_of(worker)
    body = {**BODY, "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True}}
    request = asyncio.create_task(post(url, "/generate", body))
    await asyncio.sleep(0.05)
    await post(url, "/pause_generation", {"mode": "abort"})
    await post(url, "/continue_generation", {})
    assert (await request).body["meta_info"]["finish_reason"]["type"] == "abort"
    assert is_free(worker)


async def test_slow_down_lengthens_each_step(worker: Worker) -> None:
    url = url_of(worker)
    await post(url, "/slow_down", {"forward_sleep_time": 0.05})
    assert await took_s(worker) >= 5 * 0.05
    await post(url, "/slow_down", {"forward_sleep_time": None})
    assert await took_s(worker) < 0.2
