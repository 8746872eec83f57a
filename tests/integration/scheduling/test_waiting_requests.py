"""Requests that wait in the router: whoever ends them, nothing of them reaches a worker or stays.

`narrow_router` looks for what the dispatcher holds when each test ends, `running_router` for the
rest.
"""

import asyncio
import math
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from support.queueing import (
    BOTH_MODES,
    error_of,
    narrow_router,
    num_received,
    num_waiting,
    occupy,
    until_waiting,
)
from support.raw_client import ClosedError, RawClient, request_bytes

POST = request_bytes("POST", "/generate", body=b'{"text":"hi"}')
LEAVING: dict[str, Callable[[RawClient], None]] = {
    "close": RawClient.close,
    "reset": RawClient.reset,
    "half-close": RawClient.shut_writing,
}


@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING.keys())
@pytest.mark.parametrize("mode", BOTH_MODES)
async def test_a_client_leaves(mode: str, leave: Callable[[RawClient], None]) -> None:
    async with narrow_router(mode) as (router, worker):
        first, gate = await occupy(router, worker)
        async with router.client() as client:
            await client.send(POST)
            await until_waiting(router, 1)
            leave(client)
            await until_waiting(router, 0)
        recorded = router.router.recorder.answers["/generate", False, 499, "client_cancelled"]
        assert recorded.num_observed == 1
        gate.set()
        assert (await first).status == 200
        assert (await router.post()).status == 200
        assert num_received(worker) == 2
        assert worker.requests_for("/abort_request") == []


async def test_many_clients_leave_at_once() -> None:
    async with narrow_router("regular") as (router, worker), AsyncExitStack() as stack:
        first, gate = await occupy(router, worker)
        clients = [await stack.enter_async_context(router.client()) for _ in range(50)]
        for client in clients:
            await client.send(POST)
        await until_waiting(router, 50)
        *leaving, stays = clients
        for client in leaving:
            client.close()
        await until_waiting(router, 1)
        gate.set()
        assert (await first).status == 200
        assert (await stays.read_response()).status == 200
        assert num_received(worker) == 2


@pytest.mark.parametrize("mode", BOTH_MODES)
async def test_the_time_runs_out(mode: str) -> None:
    async with narrow_router(mode, request_timeout_secs=0.3) as (router, worker):
        first, gate = await occupy(router, worker)
        [exchange] = router.router.service.exchanges
        exchange.deadline_s = math.inf
        received = await router.post()
        assert received.status == 504
        assert error_of(received)["code"] == "upstream_timeout"
        assert num_waiting(router) == 0
        assert num_received(worker) == 1
        gate.set()
        assert (await first).status == 200
        assert (await router.post()).status == 200


@pytest.mark.parametrize("mode", BOTH_MODES)
async def test_a_shutdown_waits_for_them(mode: str) -> None:
    async with narrow_router(mode) as (router, worker):
        first, gate = await occupy(router, worker)
        waiting = [asyncio.create_task(router.post()) for _ in range(3)]
        await until_waiting(router, 3)
        stopping = asyncio.create_task(router.router.stop())
        await asyncio.sleep(0)
        gate.set()
        for received in await asyncio.gather(first, *waiting):
            assert received.status == 200
        await stopping
        assert num_received(worker) == 4


async def test_a_shutdown_gives_them_up_after_the_grace_period() -> None:
    async with narrow_router("regular", shutdown_grace_period_secs=0.1) as (router, worker):
        first, _ = await occupy(router, worker)
        async with router.client() as client:
            await client.send(POST)
            await until_waiting(router, 1)
            async with asyncio.timeout(2):
                await router.router.stop()
            with pytest.raises(ClosedError):
                await client.read_response()
        with pytest.raises(ClosedError):
            await first
        assert num_received(worker) == 1
