"""What clients see while the router shuts down."""

import asyncio
import json

import pytest
from support.raw_client import ClosedError, RawClient, fetch, request_bytes
from support.router import eventually, in_mode, one_pair, one_worker
from support.script import Ending, Script, Step, answer, stalled

POST = request_bytes("POST", "/generate", body=b'{"text":"hi"}')


def _gated_stream(gate: asyncio.Event) -> Script:
    head, *chunks = answer(chunks=[b"data: 1\n\n", b"data: 2\n\n"]).steps
    held = [Step(data=chunk.data, gate=gate) for chunk in chunks[1:]]
    return Script(steps=(head, chunks[0], *held), ending=Ending.KEEP)


async def test_a_stream_finishes_while_nobody_new_gets_in() -> None:
    gate = asyncio.Event()
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(_gated_stream(gate))
        await client.send(POST)
        received = await client.read_head()
        assert await client.next_chunk(received) == b"data: 1\n\n"
        stopping = asyncio.create_task(router.router.stop())
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await fetch(router.url, "GET", "/liveness")
        gate.set()
        await client.read_rest(received)
        assert received.is_complete
        assert received.chunks == [b"data: 1\n\n", b"data: 2\n\n"]
        assert await client.is_closed()
        await stopping


async def test_idle_connections_are_closed_at_once() -> None:
    async with one_worker() as (router, _), router.client() as fresh, router.client() as used:
        await used.send(POST)
        assert (await used.read_response()).status == 200
        assert await eventually(lambda: len(router.router._front.connections) == 2)
        async with asyncio.timeout(2):
            await router.router.stop()
        assert await fresh.is_closed()
        assert await used.is_closed()


async def test_a_pipelined_request_is_told_that_the_router_shuts_down() -> None:
    gate = asyncio.Event()
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(answer(body=b"{}", gate=gate))
        await client.send(POST + POST)
        await worker.wait_requests(1, path="/generate")
        stopping = asyncio.create_task(router.router.stop())
        await asyncio.sleep(0)
        gate.set()
        assert (await client.read_response()).status == 200
        refused = await client.read_response()
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "shutting_down"
        assert refused.header("retry-after") is not None
        assert refused.header("connection") == b"close"
        assert await client.is_closed()
        assert len(worker.requests_for("/generate")) == 1
        await stopping


async def test_a_request_whose_body_is_still_coming_is_told_so() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(POST[:-3])
        assert await eventually(lambda: router.router.recorder.num_connections == 1)
        await asyncio.sleep(0.02)
        stopping = asyncio.create_task(router.router.stop())
        await asyncio.sleep(0.02)
        await client.send(POST[-3:])
        assert (await client.read_response()).status == 503
        await stopping
        assert worker.requests_for("/generate") == []


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_the_grace_period_cuts_what_does_not_end(mode: str) -> None:
    async with in_mode(mode, shutdown_grace_period_secs=0.1) as (router, workers):
        for worker in workers:
            worker.queue(stalled())
        async with RawClient.to(router.url) as client:
            await client.send(POST)
            for worker in workers:
                await worker.wait_requests(1, path="/generate")
            async with asyncio.timeout(2):
                await router.router.stop()
            with pytest.raises(ClosedError):
                await client.read_response()
            for worker in workers:
                await worker.wait_disconnect(worker.requests_for("/generate")[0])
                assert len(worker.requests_for("/abort_request")) == (mode == "pair")


async def test_a_second_signal_does_not_wait() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(stalled())
        await client.send(POST)
        await worker.wait_requests(1, path="/generate")
        stopping = asyncio.create_task(router.router.stop())
        await asyncio.sleep(0)
        router.router.hurry()
        async with asyncio.timeout(2):
            await stopping
        assert await client.is_closed()


async def test_the_answer_of_a_prefill_is_not_waited_for() -> None:
    async with one_pair() as (router, prefill, _):
        prefill.queue(stalled())
        assert (await router.post()).status == 200
        assert router.worker(prefill).num_inflight == 1
        async with asyncio.timeout(2):
            await router.router.stop()
        await prefill.wait_requests(1, path="/abort_request")
        assert router.router.recorder.num_inflight == 0
