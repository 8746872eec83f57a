"""Requests wait while workers join, leave and die: whoever can serve them does, at once."""

import asyncio
import json

import pytest
from support.mock_worker import RecordingWorker
from support.queueing import (
    BOTH_MODES,
    HFX,
    error_of,
    narrow_router,
    num_received,
    occupy,
    until_waiting,
)
from support.raw_client import request_bytes
from support.router import RunningRouter, eventually, pd_flags, running_router


async def add_worker(router: RunningRouter, worker: RecordingWorker, **fields: str) -> None:
    body = json.dumps({"url": worker.url, **fields}).encode()
    assert (await router.post("/workers", body)).status == 202


async def remove_worker(router: RunningRouter, worker: RecordingWorker) -> None:
    worker_id = router.worker(worker).worker_id
    async with router.client() as client:
        await client.send(request_bytes("DELETE", f"/workers/{worker_id}"))
        assert (await client.read_response()).status == 202


async def test_a_worker_that_is_added_serves_them() -> None:
    async with (
        RecordingWorker() as added,
        narrow_router("regular") as (router, worker),
    ):
        first, gate = await occupy(router, worker)
        waiting = [asyncio.create_task(router.post()) for _ in range(5)]
        await until_waiting(router, 5)
        await add_worker(router, added)
        for received in await asyncio.gather(*waiting):
            assert received.status == 200
        assert (num_received(worker), num_received(added)) == (1, 5)
        gate.set()
        assert (await first).status == 200


async def test_a_decode_worker_that_is_added_serves_them() -> None:
    async with (
        RecordingWorker(role="decode") as added,
        narrow_router("pair") as (router, worker),
    ):
        first, gate = await occupy(router, worker)
        waiting = [asyncio.create_task(router.post()) for _ in range(5)]
        await until_waiting(router, 5)
        await add_worker(router, added, worker_type="decode")
        for received in await asyncio.gather(*waiting):
            assert received.status == 200
        assert (num_received(worker), num_received(added)) == (1, 5)
        gate.set()
        assert (await first).status == 200


@pytest.mark.parametrize("mode", BOTH_MODES)
async def test_the_only_worker_is_removed(mode: str) -> None:
    async with narrow_router(mode) as (router, worker):
        first, gate = await occupy(router, worker)
        waiting = [asyncio.create_task(router.post()) for _ in range(3)]
        await until_waiting(router, 3)
        await remove_worker(router, worker)
        async with asyncio.timeout(2):
            for received in await asyncio.gather(*waiting):
                assert received.status == 503
                assert received.header("retry-after") == b"1"
                assert "worker is usable" in str(error_of(received)["message"])
        late = await router.post()
        assert late.status == 503
        gate.set()
        assert (await first).status == 200, "what the worker has is finished"
        assert num_received(worker) == 1


async def test_the_only_worker_dies() -> None:
    flags = ("--disable-retries", "--cb-failure-threshold", "1", "--disable-health-check")
    async with narrow_router("regular", *flags) as (router, worker):
        first, _ = await occupy(router, worker)
        waiting = [asyncio.create_task(router.post()) for _ in range(3)]
        await until_waiting(router, 3)
        await worker.stop(is_reset=True)
        async with asyncio.timeout(2):
            assert (await first).status == 502
            for received in await asyncio.gather(*waiting):
                assert received.status == 503


async def test_the_pool_is_empty_in_one_role_only() -> None:
    async with (
        RecordingWorker(role="decode") as decode,
        running_router(*pd_flags([], [decode]), *HFX) as router,
    ):
        received = await router.post()
        assert received.status == 503
        assert error_of(received)["message"] == "no prefill worker is usable"
        async with RecordingWorker(role="prefill") as prefill:
            await add_worker(router, prefill, worker_type="prefill")
            assert await eventually(lambda: len(router.router.registry.workers) == 2)
            worker_id = router.worker(prefill).worker_id
            await router.router.registrar.settled(worker_id)
            assert (await router.post()).status == 200
