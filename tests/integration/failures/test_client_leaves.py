"""A client leaves at every stage of its request: the workers stop, and no count stays behind.

`running_router` looks for what is left when each test ends.
"""

import asyncio
from collections.abc import Callable

import pytest
from support.engine import event
from support.raw_client import RawClient, request_bytes
from support.router import RunningRouter, eventually, one_pair, one_worker
from support.script import SSE_TYPE, Ending, Script, Step, answer, stalled

STREAM = b'{"text":"hi","stream":true,"rid":"the-request"}'
LEAVING: dict[str, Callable[[RawClient], None]] = {
    "close": RawClient.close,
    "reset": RawClient.reset,
    "half-close": RawClient.shut_writing,
}


@pytest.fixture(params=[*LEAVING.values()], ids=[*LEAVING])
def leave(request: pytest.FixtureRequest) -> Callable[[RawClient], None]:
    way: Callable[[RawClient], None] = request.param
    return way


def _post(body: bytes = STREAM) -> bytes:
    return request_bytes("POST", "/generate", body=body)


def _endless_stream() -> Script:
    head, first, second = answer(headers=[SSE_TYPE], chunks=[event(1), event(2)]).steps[:3]
    return Script(steps=(head, first, second), ending=Ending.STALL)


async def _is_settled(router: RunningRouter) -> None:
    """Everything of the request is gone, and the client is on record as having left."""
    assert await router.settled() == {}
    [(key, _)] = router.router.recorder.answers.items()
    assert key[2:] == (499, "client_cancelled")


async def test_before_the_head_of_an_answer(leave: Callable[[RawClient], None]) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(stalled())
        await client.send(_post())
        [request] = await worker.wait_requests(1, path="/generate")
        assert router.worker(worker).num_inflight == 1
        leave(client)
        await worker.wait_disconnect(request)
        assert request.closed_early
        await _is_settled(router)
        assert router.worker(worker).num_failed == 0


async def test_in_the_middle_of_a_stream(leave: Callable[[RawClient], None]) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(_endless_stream())
        await client.send(_post())
        received = await client.read_head()
        assert await client.next_chunk(received) == event(1)
        leave(client)
        [request] = worker.requests_for("/generate")
        await worker.wait_disconnect(request)
        await _is_settled(router)
        # The worker is free for the next client.
        assert (await router.post()).status == 200


@pytest.mark.parametrize("stage", ["before the head", "in the stream"])
async def test_both_legs_of_a_pair_are_aborted(
    stage: str, leave: Callable[[RawClient], None]
) -> None:
    async with one_pair() as (router, prefill, decode), router.client() as client:
        prefill.queue(stalled())
        decode.queue(stalled() if stage == "before the head" else _endless_stream())
        await client.send(_post())
        requests = [
            (await worker.wait_requests(1, path="/generate"))[0] for worker in (prefill, decode)
        ]
        if stage == "in the stream":
            received = await client.read_head()
            assert await client.next_chunk(received) == event(1)
        leave(client)
        for worker, request in zip((prefill, decode), requests, strict=True):
            await worker.wait_disconnect(request)
            [aborted] = await worker.wait_requests(1, path="/abort_request")
            assert aborted.json() == {"rid": "the-request", "abort_all": False}
        await _is_settled(router)


async def test_while_a_merged_answer_waits_for_the_prefill() -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(stalled())
        async with router.client() as client:
            await client.send(_post(b'{"text":"hi","return_logprob":true}'))
            await decode.wait_requests(1, path="/generate")
            assert await eventually(lambda: router.worker(decode).num_inflight == 0)
        await prefill.wait_requests(1, path="/abort_request")
        assert decode.requests_for("/abort_request") == []
        await _is_settled(router)


async def test_during_the_connect_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()

    async def never_connect(*args: object, **kwargs: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with one_worker() as (router, worker):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "create_connection", never_connect)
            async with router.client() as client:
                await client.send(_post())
                await begun.wait()
            await _is_settled(router)
        assert worker.requests_for("/generate") == []


async def test_during_the_wait_before_another_attempt() -> None:
    async with one_worker("--retry-initial-backoff-ms", "60000",
                          "--retry-max-backoff-ms", "60000") as (router, worker):  # fmt: skip
        worker.queue(answer(status=503))
        async with router.client() as client:
            await client.send(_post())
            await worker.wait_requests(1, path="/generate")
            await router.until_legs_are_over()
            [exchange] = router.router.service.exchanges
            assert exchange._retry is not None
        await _is_settled(router)
        assert exchange._retry is None
        assert len(worker.requests_for("/generate")) == 1


async def test_while_queued_for_admission() -> None:
    async with one_worker("--max-concurrent-requests", "1") as (router, worker):
        gate = asyncio.Event()
        worker.queue(answer(body=b"{}", gate=gate))
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        recorder = router.router.recorder
        async with router.client() as client:
            await client.send(_post())
            assert await eventually(lambda: recorder.num_queued == 1)
        assert await eventually(lambda: recorder.num_queued == 0)
        assert recorder.num_inflight == 1
        gate.set()
        assert (await first).status == 200
        assert (await router.post()).status == 200
        assert len(worker.requests_for("/generate")) == 2


async def test_as_it_is_let_in() -> None:
    """Leaving passes the slot on, whoever leaves and when."""
    async with one_worker("--max-concurrent-requests", "1") as (router, worker):
        worker.queue(stalled())
        async with router.client() as client:
            await client.send(_post())
            await worker.wait_requests(1, path="/generate")
            second = asyncio.create_task(router.post())
            assert await eventually(lambda: router.router.recorder.num_queued == 1)
        assert (await second).status == 200


async def test_with_pipelined_requests_waiting() -> None:
    async with one_worker() as (router, worker):
        worker.queue(stalled())
        async with router.client() as client:
            await client.send(_post() * 5)
            await worker.wait_requests(1, path="/generate")
        await _is_settled(router)
        assert len(worker.requests_for("/generate")) == 1


async def test_in_the_middle_of_a_request() -> None:
    async with one_worker() as (router, worker):
        for num_bytes in (1, 30, len(_post()) - 1):
            async with router.client() as client:
                await client.send(_post()[:num_bytes])
                assert await eventually(lambda: len(router.router._front.connections) == 1)
        assert await router.settled() == {}
        assert router.router.recorder.answers == {}
        assert worker.requests_for("/generate") == []


async def test_during_a_control_request() -> None:
    async with one_worker() as (router, worker):
        worker.queue(Script(steps=(Step(data=b"", delay_s=0.05), *answer(body=b"{}").steps),
                            ending=Ending.KEEP), path="/server_info")  # fmt: skip
        num_before = len(worker.requests_for("/server_info"))
        async with router.client() as client:
            await client.send(b"GET /server_info HTTP/1.1\r\nhost: x\r\n\r\n")
            await worker.wait_requests(num_before + 1, path="/server_info")
        assert await router.settled() == {}


async def test_a_hundred_clients_leave_at_once() -> None:
    async with one_worker() as (router, worker):
        worker.queue(*[stalled()] * 100)
        clients = [await router.client().__aenter__() for _ in range(100)]
        for client in clients:
            await client.send(_post())
        await worker.wait_requests(100, path="/generate")
        assert router.worker(worker).num_inflight == 100
        for client in clients:
            client.close()
        for request in worker.requests_for("/generate"):
            await worker.wait_disconnect(request)
        await _is_settled(router)
