"""Clients that send or read slowly: how long they may, and what they hold meanwhile."""

import asyncio
import json
from pathlib import Path

import pytest
from support.engine import event
from support.mock_worker import RecordedRequest, RecordingWorker
from support.raw_client import RawClient, request_bytes
from support.router import eventually, in_mode, one_worker, running_router
from support.script import SSE_TYPE, Ending, Script, Step, answer, stalled

POST = request_bytes("POST", "/generate", body=b'{"text":"hi"}')


async def _check_408(client: RawClient, flag: str) -> None:
    received = await client.read_response()
    assert received.status == 408
    error = json.loads(received.body)["error"]
    assert error["code"] == "request_read_timeout"
    assert flag in error["message"]
    assert received.header("connection") == b"close"
    assert await client.is_closed()


@pytest.mark.parametrize("num_bytes", [1, 30, 58])
async def test_headers_that_do_not_arrive(num_bytes: int) -> None:
    async with one_worker(client_header_timeout_secs=0.1) as (router, _), router.client() as client:
        await client.send(POST[:num_bytes])
        await _check_408(client, "--client-header-timeout-secs")


async def test_headers_that_trickle_in() -> None:
    """The time counts from the first byte, or a client could hold a connection for ever."""
    async with one_worker(client_header_timeout_secs=0.2) as (router, _), router.client() as client:
        sending = asyncio.create_task(client.send(POST, piece_bytes=1, delay_s=0.05))
        await _check_408(client, "--client-header-timeout-secs")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_the_headers_of_a_later_request_have_a_time_of_their_own() -> None:
    async with one_worker(client_header_timeout_secs=0.3) as (router, _), router.client() as client:
        for _ in range(3):
            await client.send(POST[:40])
            await asyncio.sleep(0.12)
            await client.send(POST[40:])
            assert (await client.read_response()).status == 200
        await client.send(POST[:10])
        await _check_408(client, "--client-header-timeout-secs")


async def test_a_body_that_stops() -> None:
    async with one_worker(client_body_timeout_secs=0.1) as (router, worker):
        async with router.client() as client:
            await client.send(POST[:-1])
            await _check_408(client, "--client-body-timeout-secs")
        assert worker.requests_for("/generate") == []


async def test_a_body_may_take_long_while_it_moves() -> None:
    timeouts = {"client_body_timeout_secs": 0.4, "client_header_timeout_secs": 0.4}
    async with one_worker(**timeouts) as (router, _), router.client() as client:
        await client.send(POST[:-10])
        await client.send(POST[-10:], piece_bytes=1, delay_s=0.06)
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize("num_requests", [0, 2])
async def test_an_idle_connection_is_closed_without_a_word(num_requests: int) -> None:
    async with one_worker(client_idle_timeout_secs=0.1) as (router, _), router.client() as client:
        for _ in range(num_requests):
            await client.send(POST)
            assert (await client.read_response()).status == 200
        assert await client.is_closed(within_s=2)


async def test_a_slow_answer_is_no_idle_connection() -> None:
    timeouts = {
        "client_idle_timeout_secs": 0.05,
        "client_header_timeout_secs": 0.05,
        "client_body_timeout_secs": 0.05,
    }
    async with one_worker(**timeouts) as (router, worker), router.client() as client:
        worker.queue(answer(body=b"{}", delay_s=0.6))
        await client.send(POST)
        assert (await client.read_response()).status == 200


# --- clients that do not read ---

CHUNK = event("x" * 60_000)


def _torrent(num_chunks: int, framing: str = "chunked") -> Script:
    """Return an answer of `num_chunks` times 60 kB, sent as fast as it is taken."""
    if framing == "chunked":
        return answer(headers=[SSE_TYPE], chunks=[CHUNK] * num_chunks)
    head = answer(body=b"").raw.replace(b"length: 0", b"length: %d" % (num_chunks * len(CHUNK)))
    steps = [Step(data=head), *[Step(data=CHUNK)] * num_chunks]
    return Script(steps=tuple(steps), ending=Ending.KEEP)


def _slow_client(router_url: str) -> RawClient:
    port = int(router_url.rpartition(":")[2])
    return RawClient("127.0.0.1", port, receive_buffer_bytes=8192)


def _sockets_hold_bytes() -> int:
    """Return how much the kernel takes between worker and a client with a small buffer."""
    limits = [Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split() for way in "rw"]
    received, sent = (int(largest) for _, _, largest in limits)
    return sent + received + sent


async def _has_come_to_rest(request: RecordedRequest) -> int:
    """Wait until the worker cannot send any more, and return how much it has sent."""
    sent = -1
    while sent != request.num_sent_bytes:
        sent = request.num_sent_bytes
        await asyncio.sleep(0.1)
    return sent


@pytest.mark.parametrize("framing", ["chunked", "counted"])
@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_a_client_that_does_not_read_holds_the_worker_back(mode: str, framing: str) -> None:
    num_chunks = 2 * _sockets_hold_bytes() // len(CHUNK)
    async with in_mode(mode) as (router, workers):
        worker = workers[-1]
        worker.queue(_torrent(num_chunks, framing))
        async with _slow_client(router.url) as client:
            await client.send(POST)
            [request] = await worker.wait_requests(1, path="/generate")
            received = await client.read_head()
            sent_bytes = await _has_come_to_rest(request)
            assert sent_bytes < _sockets_hold_bytes() + 1_000_000
            [connection] = router.router._front.connections
            assert connection._transport is not None
            assert connection._transport.get_write_buffer_size() < 1_000_000
            await client.read_rest(received)  # and then reads all of it
            assert received.is_complete
            assert bytes(received.body) == CHUNK * num_chunks
            assert request.is_answered


async def test_a_client_that_never_reads_is_dropped() -> None:
    async with one_worker(stream_write_timeout_secs=0.2) as (router, worker):
        worker.queue(_torrent(500))
        async with _slow_client(router.url) as client:
            await client.send(POST)
            [request] = await worker.wait_requests(1, path="/generate")
            await worker.wait_disconnect(request)
            assert request.closed_early
            assert await eventually(lambda: not router.router._front.connections)
        [key] = router.router.recorder.answers
        assert key[2:] == (499, "client_cancelled")
        assert router.worker(worker).num_failed == 0


async def test_a_client_that_asks_and_asks_and_never_reads() -> None:
    """Answers that wait must bound how many requests are served, not only their own size."""

    def respond(request: RecordedRequest) -> Script | None:
        return answer(body=b"x" * 500_000) if request.route == "/generate" else None

    async with RecordingWorker(respond=respond) as worker:
        flags = ("--worker-urls", worker.url)
        async with running_router(*flags, stream_write_timeout_secs=0.5) as router:
            async with _slow_client(router.url) as client:
                sending = asyncio.create_task(client.send(POST * 200))
                assert await eventually(lambda: not router.router._front.connections, within_s=5)
                await asyncio.gather(sending, return_exceptions=True)
            assert len(worker.requests_for("/generate")) < 40


async def test_it_is_served_on_when_it_reads_again() -> None:
    def respond(request: RecordedRequest) -> Script | None:
        return answer(body=request.body * 30_000) if request.route == "/generate" else None

    bodies = [b'{"text":"%02d"}' % number for number in range(40)]
    requests = [request_bytes("POST", "/generate", body=body) for body in bodies]
    async with (
        RecordingWorker(respond=respond) as worker,
        running_router("--worker-urls", worker.url) as router,
        _slow_client(router.url) as client,
    ):
        sending = asyncio.create_task(client.send(b"".join(requests)))
        await worker.wait_requests(2, path="/generate")
        await asyncio.sleep(0.2)
        assert len(worker.requests_for("/generate")) < 40
        for body in bodies:
            assert bytes((await client.read_response()).body) == body * 30_000
        await sending


async def test_an_answer_that_was_left_unread_does_not_outlive_its_time() -> None:
    """The answer is complete and the connection is to be closed, but nobody takes the bytes."""
    async with one_worker(stream_write_timeout_secs=0.2) as (router, worker):
        worker.queue(answer(body=b"x" * 8_000_000))
        async with _slow_client(router.url) as client:
            await client.send(
                request_bytes(
                    "POST", "/generate", headers=[(b"connection", b"close")], body=b'{"text":"hi"}'
                )
            )
            await worker.wait_requests(1, path="/generate")
            assert await eventually(lambda: not router.router._front.connections, within_s=5)


async def test_a_hung_request_is_not_a_slow_reader() -> None:
    async with one_worker(stream_write_timeout_secs=0.05) as (router, worker):
        worker.queue(stalled())
        async with router.client() as client:
            await client.send(POST)
            assert await client.is_closed(within_s=0.6) is False
