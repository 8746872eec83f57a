"""The concurrency limit and its queue, as clients see them."""

import asyncio
import json

import pytest
from support.mock_worker import RecordingWorker
from support.raw_client import RawResponse
from support.router import RunningRouter, eventually, one_pair, one_worker
from support.script import Ending, Script, Step, answer

ONE_AT_A_TIME = ("--max-concurrent-requests", "1")


def _code(received: RawResponse) -> str:
    code = json.loads(received.body)["error"]["code"]
    assert isinstance(code, str)
    assert received.header("x-smg-error-code") == code.encode()
    return code


def _hold(worker: RecordingWorker) -> asyncio.Event:
    """Keep the next request in the worker until the event is set."""
    gate = asyncio.Event()
    worker.queue(answer(body=b"{}", gate=gate))
    return gate


async def _is_queued(router: RunningRouter, num: int) -> bool:
    return await eventually(lambda: router.router.recorder.num_queued == num)


async def test_one_waits_and_the_next_is_turned_away() -> None:
    async with one_worker(*ONE_AT_A_TIME, "--queue-size", "1") as (router, worker):
        gate = _hold(worker)
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        second = asyncio.create_task(router.post("/generate", b'{"text":"second"}'))
        assert await _is_queued(router, 1)
        third = await router.post()
        assert (third.status, _code(third)) == (429, "queue_full")
        assert int(third.header("retry-after") or b"0") >= 1
        assert len(worker.requests_for("/generate")) == 1
        gate.set()
        assert (await first).status == 200
        assert (await second).status == 200
        assert worker.requests_for("/generate")[1].body == b'{"text":"second"}'


async def test_without_a_queue_nobody_waits() -> None:
    async with one_worker(*ONE_AT_A_TIME, "--queue-size", "0") as (router, worker):
        gate = _hold(worker)
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        assert _code(await router.post()) == "queue_full"
        gate.set()
        assert (await first).status == 200
        assert (await router.post()).status == 200


async def test_waiting_too_long_is_429() -> None:
    async with one_worker(*ONE_AT_A_TIME, queue_timeout_secs=0.1) as (router, worker):
        gate = _hold(worker)
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        second = await router.post()
        assert (second.status, _code(second)) == (429, "queue_deadline_exceeded")
        assert int(second.header("retry-after") or b"0") >= 1
        gate.set()
        assert (await first).status == 200
        assert len(worker.requests_for("/generate")) == 1


async def test_first_come_first_served() -> None:
    async with one_worker(*ONE_AT_A_TIME) as (router, worker):
        gate = _hold(worker)
        asking = [asyncio.create_task(router.post())]
        await worker.wait_requests(1, path="/generate")
        for number in range(5):
            body = b'{"text":"%d"}' % number
            asking.append(asyncio.create_task(router.post("/generate", body)))
            assert await _is_queued(router, number + 1)
        gate.set()
        await asyncio.gather(*asking)
        texts = [request.json()["text"] for request in worker.requests_for("/generate")]
        assert texts == ["hi", "0", "1", "2", "3", "4"]


async def test_a_stream_holds_its_slot_to_the_end() -> None:
    gate = asyncio.Event()
    async with one_worker(*ONE_AT_A_TIME, "--queue-size", "0") as (router, worker):
        head, chunk, last = answer(chunks=[b"data: 1\n\n"]).steps
        held = Step(data=last.data, gate=gate)
        worker.queue(Script(steps=(head, chunk, held), ending=Ending.KEEP))
        async with router.client() as client:
            await client.send(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            received = await client.read_head()
            assert await client.next_chunk(received) == b"data: 1\n\n"
            assert (await router.post()).status == 429
            gate.set()
            await client.read_rest(received)
            assert received.is_complete
        assert (await router.post()).status == 200


@pytest.mark.parametrize("body", [b"nonsense", b'{"stream":"yes"}'])
async def test_bad_requests_take_no_slot(body: bytes) -> None:
    async with one_worker(*ONE_AT_A_TIME, "--queue-size", "0") as (router, worker):
        gate = _hold(worker)
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        assert (await router.post("/generate", body)).status == 400
        gate.set()
        assert (await first).status == 200


async def test_the_control_plane_needs_no_slot() -> None:
    async with one_worker(*ONE_AT_A_TIME, "--queue-size", "0") as (router, worker):
        gate = _hold(worker)
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        async with router.client() as client:
            await client.send(b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await client.read_response()).status == 200
        gate.set()
        await first


async def test_a_pair_takes_one_slot() -> None:
    async with one_pair(*ONE_AT_A_TIME, "--queue-size", "0") as (router, _, decode):
        for _ in range(3):
            assert (await router.post()).status == 200
        gate = _hold(decode)
        first = asyncio.create_task(router.post())
        await decode.wait_requests(4, path="/generate")
        assert (await router.post()).status == 429
        gate.set()
        assert (await first).status == 200


async def test_hundreds_that_wait_and_then_find_no_worker() -> None:
    """Each lets the next one in as it fails; that must not depend on how many there are."""
    flags = (*ONE_AT_A_TIME, "--queue-size", "500")
    async with one_worker(*flags) as (router, worker):
        gate = _hold(worker)
        asking = [asyncio.create_task(router.post())]
        await worker.wait_requests(1, path="/generate")
        asking += [asyncio.create_task(router.post()) for _ in range(400)]
        assert await _is_queued(router, 400)
        registrar = router.router.registrar
        registrar.remove(router.worker(worker).worker_id)
        gate.set()
        statuses = [(await task).status for task in asking]
        assert statuses == [200] + [503] * 400


async def test_rate_limit() -> None:
    flags = ("--rate-limit-tokens-per-second", "1", "--queue-size", "0")
    async with one_worker(*flags) as (router, _):
        assert (await router.post()).status == 200
        second = await router.post()
        assert (second.status, _code(second)) == (429, "rate_limited")
        assert second.header("retry-after") is not None
