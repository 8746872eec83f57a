"""How large a request may be, and that whoever exceeds a limit is told which."""

import asyncio
import json

import pytest
from support.raw_client import RawClient, RawResponse, request_bytes
from support.router import eventually, one_worker

SMALL_BODY = ("--max-payload-size", "1000")
SMALL_HEAD = ("--max-header-bytes", "1024")


async def _check_refusal(client: RawClient, status: int, code: str, named: str) -> RawResponse:
    """The answer says what is wrong, and the connection ends after it."""
    received = await client.read_response()
    assert received.status == status
    error = json.loads(received.body)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert named in error["message"]
    assert received.header("connection") == b"close"
    assert await client.is_closed()
    return received


async def test_a_body_of_exactly_the_limit_is_served() -> None:
    body = b'{"text":"%b"}' % (b"x" * 989)
    assert len(body) == 1000
    async with one_worker(*SMALL_BODY) as (router, _):
        assert (await router.post("/generate", body)).status == 200


async def test_a_length_over_the_limit_is_refused_before_the_body() -> None:
    async with one_worker(*SMALL_BODY) as (router, _), router.client() as client:
        await client.send(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n")
        await _check_refusal(client, 413, "payload_too_large", "1000 bytes (--max-payload-size)")


async def test_a_chunked_body_is_refused_when_it_exceeds_the_limit() -> None:
    async with one_worker(*SMALL_BODY) as (router, worker), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"64\r\n%b\r\n" % (b" " * 100)
        await client.send(chunk * 10)
        assert not await client.is_closed(within_s=0.05)
        await client.send(chunk)
        await _check_refusal(client, 413, "payload_too_large", "--max-payload-size")
        assert worker.requests_for("/generate") == []


@pytest.mark.parametrize("framing", ["counted", "chunked"])
async def test_a_client_that_sends_all_of_it_first_still_reads_the_refusal(framing: str) -> None:
    """Closing while it sends would reset the connection, and with it the answer."""
    size_bytes = 20_000_000
    async with one_worker(*SMALL_BODY) as (router, _), router.client() as client:
        if framing == "counted":
            lines, frame = b"content-length: %d\r\n" % size_bytes, b"%b"
        else:
            lines, frame = b"transfer-encoding: chunked\r\n", b"%x\r\n%%b\r\n0\r\n\r\n" % size_bytes
        await client.send(b"POST /generate HTTP/1.1\r\nhost: x\r\n%b\r\n" % lines)
        await client.send(frame % (b" " * size_bytes))
        await _check_refusal(client, 413, "payload_too_large", "--max-payload-size")


async def test_a_client_that_never_stops_sending_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hfx_router.server.connection._LINGER_S", 0.05)
    async with one_worker(*SMALL_BODY) as (router, _), router.client() as client:
        await client.send(b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await client.send(b" " * 1_000_000, piece_bytes=1000, delay_s=0.005)
        assert await eventually(lambda: not router.router._front.connections)


async def test_the_limit_holds_on_the_control_plane() -> None:
    async with one_worker(*SMALL_BODY) as (router, _), router.client() as client:
        await client.send(b"POST /workers HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n")
        await _check_refusal(client, 413, "payload_too_large", "--max-payload-size")


HEADS = {
    "one long value": b"POST /generate HTTP/1.1\r\nx: " + b"y" * 2000 + b"\r\n\r\n",
    "many headers": b"POST /generate HTTP/1.1\r\n" + b"x: y\r\n" * 400 + b"\r\n",
    "a long target": b"POST /" + b"g" * 2000 + b" HTTP/1.1\r\n\r\n",
    "a long query": b"POST /generate?" + b"g" * 2000 + b" HTTP/1.1\r\n\r\n",
    "a long name": b"POST /generate HTTP/1.1\r\n" + b"x" * 2000 + b": y\r\n\r\n",
    "no end": b"POST /generate HTTP/1.1\r\nx: " + b"y" * 5000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("piece_bytes", [None, 100])
async def test_long_heads_are_431(head: bytes, piece_bytes: int | None) -> None:
    async with one_worker(*SMALL_HEAD) as (router, worker), router.client() as client:
        # A head in one piece is only known to be too long if it ends, or goes on.
        tail = b"" if piece_bytes or not head.endswith(b"y" * 5000) else b"z" * 2000
        await client.send(head, piece_bytes=piece_bytes)
        if tail:
            await asyncio.sleep(0.01)
            await client.send(tail)
        await _check_refusal(client, 431, "headers_too_large", "1024 bytes")
        assert worker.requests_for("/generate") == []


async def test_a_head_within_the_limit_beside_a_large_body() -> None:
    async with one_worker(*SMALL_HEAD) as (router, _), router.client() as client:
        for _ in range(3):
            await client.send(
                request_bytes(
                    "POST",
                    "/generate",
                    headers=[(b"x", b"y" * 900)],
                    body=b'{"text":"%b"}' % (b"x" * 200_000),
                )
            )
            assert (await client.read_response()).status == 200


FRAMING = {
    "extensions": b"1;%b\r\n \r\n" % (b"x" * 9000),
    "trailers": b"0\r\n" + b"x: y\r\n" * 2000,
}


@pytest.mark.parametrize("framing", FRAMING.values(), ids=FRAMING.keys())
async def test_chunk_framing_that_outweighs_its_body(framing: bytes) -> None:
    async with one_worker(*SMALL_HEAD) as (router, _), router.client() as client:
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        connections = router.router._front.connections
        assert await eventually(lambda: any(c._reader.is_mid_body for c in connections))
        await client.send(framing)
        await _check_refusal(client, 400, "malformed_http", "outweigh")


async def test_a_body_in_chunks_of_one_byte_is_served() -> None:
    """A slow generator of JSON may write so."""
    async with one_worker(*SMALL_HEAD) as (router, worker), router.client() as client:
        body = b'{"text":"%b"}' % (b"x" * 3000)
        await client.send(
            b"POST /generate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"".join(b"1\r\n%c\r\n" % byte for byte in body)
            + b"0\r\n\r\n"
        )
        assert (await client.read_response()).status == 200
        assert worker.requests_for("/generate")[0].body == body
