"""The HTTP/1.1 side towards clients: how long a connection lives and in which order it answers."""

import asyncio

import pytest
from support.mock_worker import RecordedRequest, RecordingWorker
from support.raw_client import request_bytes
from support.router import one_pair, one_worker, running_router
from support.script import Script, answer

EVENTS = [b"data: a\n\n", b"data: [DONE]\n\n"]


def _post(number: int, *headers: tuple[bytes, bytes]) -> bytes:
    return request_bytes("POST", "/generate", headers=list(headers), body=b'{"text":"%d"}' % number)


def _echo(request: RecordedRequest) -> Script | None:
    """Answer a POST with its own body."""
    return answer(body=request.body) if request.route == "/generate" else None


async def test_fifty_requests_need_one_connection_on_either_side() -> None:
    async with RecordingWorker(respond=_echo) as worker:
        flags = ("--worker-urls", worker.url)
        async with running_router(*flags) as router, router.client() as client:
            for number in range(50):
                await client.send(_post(number))
                received = await client.read_response()
                assert received.header("connection") is None
                assert bytes(received.body) == b'{"text":"%d"}' % number
            requests = worker.requests_for("/generate")
            assert len({request.connection_id for request in requests}) == 1
            assert len(router.router._front.connections) == 1


async def test_streams_reuse_their_worker_connection() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        for _ in range(10):
            await client.send(request_bytes("POST", "/generate", body=b'{"stream":true}'))
            assert (await client.read_response()).is_complete
        requests = worker.requests_for("/generate")
        assert len({request.connection_id for request in requests}) == 1


async def test_both_legs_of_pairs_reuse_their_connections() -> None:
    async with one_pair() as (router, prefill, decode), router.client() as client:
        for _ in range(10):
            await client.send(_post(1))
            assert (await client.read_response()).status == 200
            await router.until_legs_are_over()
        for worker in (prefill, decode):
            requests = worker.requests_for("/generate")
            assert len(requests) == 10
            assert len({request.connection_id for request in requests}) == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    gate = asyncio.Event()

    def respond(request: RecordedRequest) -> Script | None:
        if request.route != "/generate":
            return None
        return answer(body=request.body, gate=gate if b'"0"' in request.body else None)

    async with RecordingWorker(respond=respond) as worker:
        flags = ("--worker-urls", worker.url)
        async with running_router(*flags) as router, router.client() as client:
            control = b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n"
            await client.send(_post(0) + control + _post(1) + _post(2))
            await worker.wait_requests(1, path="/generate")
            gate.set()
            bodies = [bytes((await client.read_response()).body) for _ in range(4)]
            assert bodies[0] == b'{"text":"0"}'
            assert bodies[2:] == [b'{"text":"1"}', b'{"text":"2"}']
            assert [r.body for r in worker.requests_for("/generate")] == [
                bodies[0], bodies[2], bodies[3]
            ]  # fmt: skip


async def test_many_pipelined_requests() -> None:
    async with RecordingWorker(respond=_echo) as worker:
        flags = ("--worker-urls", worker.url)
        async with running_router(*flags) as router, router.client() as client:
            sending = asyncio.create_task(
                client.send(b"".join(_post(number) for number in range(100)))
            )
            bodies = [bytes((await client.read_response()).body) for _ in range(100)]
            await sending
            assert bodies == [b'{"text":"%d"}' % number for number in range(100)]


async def test_an_error_answer_keeps_the_connection() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(request_bytes("POST", "/generate", body=b"{"))
        assert (await client.read_response()).status == 400
        worker.queue(answer(status=422, body=b"{}"))
        await client.send(_post(1))
        assert (await client.read_response()).status == 422
        await client.send(_post(2))
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize("body", [b'{"text":"x"}', b'{"stream":true}', b"{"])
async def test_connection_close_is_honoured(body: bytes) -> None:
    async with one_worker() as (router, _), router.client() as client:
        await client.send(
            request_bytes("POST", "/generate", headers=[(b"Connection", b"close")], body=body)
        )
        received = await client.read_response()
        assert received.is_complete
        assert received.header("connection") == b"close"
        assert await client.is_closed()


async def test_connection_close_on_the_control_plane() -> None:
    async with one_worker() as (router, _), router.client() as client:
        await client.send(b"GET /liveness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        received = await client.read_response()
        assert (received.status, received.header("connection")) == (200, b"close")
        assert await client.is_closed()


async def test_http_10_gets_an_unchunked_stream_that_ends_with_the_connection() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(answer(chunks=EVENTS))
        await client.send(b"POST /generate HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}")
        received = await client.read_response()
        assert received.header("transfer-encoding") is None
        assert received.header("content-length") is None
        assert received.header("connection") == b"close"
        assert bytes(received.body) == b"".join(EVENTS)
        assert received.framing == "close"
        assert received.is_complete


async def test_http_10_gets_a_counted_body_as_it_is() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(answer(body=b'{"a":1}'))
        await client.send(
            b"POST /generate HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}"
        )
        received = await client.read_response()
        assert bytes(received.body) == b'{"a":1}'
        assert received.header("content-length") == b"7"
        assert received.header("connection") == b"close"
        assert await client.is_closed()


async def test_expect_100_continue_is_answered_before_the_body() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\nExpect: 100-continue\r\n"
            b"content-length: 12\r\n\r\n"
        )
        interim = await client.read_interim()
        assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b'{"text":"x"}')
        received = await client.read_response()
        assert (received.status, received.interim) == (200, [])
        assert worker.requests_for("/generate")[0].body == b'{"text":"x"}'
        assert worker.requests_for("/generate")[0].header("expect") is None


async def test_a_client_that_does_not_wait_for_100_gets_none() -> None:
    async with one_worker() as (router, _), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\nExpect: 100-continue\r\n"
            b"content-length: 2\r\n\r\n{}"
        )
        received = await client.read_response()
        assert (received.status, received.interim) == (200, [])


async def test_an_oversized_body_is_refused_instead_of_100() -> None:
    flags = ("--max-payload-size", "100")
    async with one_worker(*flags) as (router, _), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\nExpect: 100-continue\r\n"
            b"content-length: 101\r\n\r\n"
        )
        received = await client.read_response()
        assert (received.status, received.interim) == (413, [])


@pytest.mark.parametrize("piece_bytes", [None, 1])
async def test_a_chunked_request_reaches_the_worker_counted(piece_bytes: int | None) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'5;ext="1"\r\n{"tex\r\n7\r\nt":"hi"\r\n01\r\n}\r\n0\r\ntrailer: dropped\r\n\r\n',
            piece_bytes=piece_bytes,
        )
        assert (await client.read_response()).status == 200
        [received] = worker.requests_for("/generate")
        assert received.body == b'{"text":"hi"}'
        assert received.header("content-length") == b"13"
        assert received.header("transfer-encoding") is None
        assert received.header("trailer") is None


async def test_requests_that_arrive_byte_by_byte() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(_post(1) + _post(2), piece_bytes=1)
        for _ in range(2):
            assert (await client.read_response()).status == 200
        bodies = [request.body for request in worker.requests_for("/generate")]
        assert bodies == [b'{"text":"1"}', b'{"text":"2"}']


async def test_upgrade_offers_are_declined() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        offer = [
            (b"Connection", b"Upgrade, HTTP2-Settings"),
            (b"Upgrade", b"h2c"),
            (b"HTTP2-Settings", b"AAMAAABkAAQAAP__"),
        ]
        for _ in range(2):
            await client.send(request_bytes("POST", "/generate", headers=offer, body=b'{"a":1}'))
            received = await client.read_response()
            assert received.status == 200
            assert received.version == b"HTTP/1.1"
            assert received.header("upgrade") is None
        for sent in worker.requests_for("/generate"):
            assert sent.body == b'{"a":1}'
            assert sent.header("upgrade") is None
