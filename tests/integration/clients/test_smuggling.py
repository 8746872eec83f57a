"""Requests that two servers could understand differently: refused, and the connection with them."""

import json

import pytest
from support.raw_client import RawClient
from support.router import one_worker

HEAD = b"POST /generate HTTP/1.1\r\nHost: x\r\n"
HIDDEN = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"

REFUSED = {
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST,
    "chunks and length": CHUNKED + b"Content-Length: 2\r\n\r\n" + LAST,
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 70\r\n\r\n{}",
    "the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "a hexadecimal length": HEAD + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": HEAD + b"Content-Length: \r\n\r\n{}",
    "a length with an underscore": HEAD + b"Content-Length: 1_0\r\n\r\n{}",
    "a length beyond 64 bits": HEAD + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + LAST,
    "a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + LAST,
    "a space before the name": HEAD + b" Transfer-Encoding: chunked\r\n\r\n" + LAST,
    "a vertical tab in the coding": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + LAST,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST,
    "identity": HEAD + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + LAST,
    "gzip and chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST,
    "gzip and chunked apart": HEAD
    + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + LAST,
    "chunked and then identity": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + LAST,
    "bare line feeds": b"POST /generate HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}",
    "one bare line feed": HEAD + b"X: a\nContent-Length: 2\r\n\r\n{}",
    "a bare carriage return": HEAD + b"X: a\rContent-Length: 2\r\n\r\n{}",
    "a null byte in a header": HEAD + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a header without a colon": HEAD + b"Transfer-Encoding\r\n\r\n",
    "a header without a name": HEAD + b": chunked\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"\r\n0x2\r\n{}\r\n" + LAST,
    "a chunk size with a sign": CHUNKED + b"\r\n+2\r\n{}\r\n" + LAST,
    "a negative chunk size": CHUNKED + b"\r\n-2\r\n{}\r\n" + LAST,
    "a chunk size with a space": CHUNKED + b"\r\n2 \r\n{}\r\n" + LAST,
    "an empty chunk size": CHUNKED + b"\r\n\r\n{}\r\n" + LAST,
    "a chunk size beyond 64 bits": CHUNKED + b"\r\n10000000000000002\r\n{}\r\n" + LAST,
    "a chunk with bare line feeds": CHUNKED + b"\r\n2\n{}\n0\n\n",
    "a line feed in an extension": CHUNKED + b"\r\n2;a\nb\r\n{}\r\n" + LAST,
    "a chunk longer than its size": CHUNKED + b"\r\n2\r\n{}xx\r\n" + LAST,
    "a chunk shorter than its size": CHUNKED + b"\r\n9\r\n{}\r\n" + LAST + b"xxxxxxxxx",
}


async def _check_refusal(client: RawClient) -> None:
    received = await client.read_response()
    assert received.status == 400
    assert json.loads(received.body)["error"]["code"] == "malformed_http"
    assert received.header("connection") == b"close"
    assert await client.is_closed()


@pytest.mark.parametrize("piece_bytes", [None, 7])
@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED.keys())
async def test_ambiguous_request(request_bytes: bytes, piece_bytes: int | None) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(request_bytes + HIDDEN, piece_bytes=piece_bytes)
        await _check_refusal(client)
        posts = [request.path for request in worker.requests if request.method == "POST"]
        assert posts == []


async def test_what_came_before_it_is_still_answered() -> None:
    good = HEAD + b"Content-Length: 2\r\n\r\n{}"
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(good + good + REFUSED["length and chunks"] + HIDDEN)
        for _ in range(2):
            assert (await client.read_response()).status == 200
        await _check_refusal(client)
        assert len(worker.requests_for("/generate")) == 2
        assert worker.requests_for("/v1/completions") == []


async def test_a_body_is_never_taken_for_a_request() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        body = b'{"text":"%b"}' % HIDDEN.replace(b"\r\n", b"\\r\\n")
        await client.send(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert (await client.read_response()).status == 200
        await client.send(b"GET /liveness HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN))
        await client.send(HIDDEN)
        assert (await client.read_response()).status == 200
        assert await client.is_closed(within_s=0.05) is False
        assert worker.requests_for("/v1/completions") == []


@pytest.mark.parametrize(
    "header",
    [b"X-Request-Id: a\rX-Evil: 1", b"X-Request-Id: a\x00b", b"X-Slo-Class: a\n\tb"],
)
async def test_line_ends_do_not_get_into_what_is_forwarded(header: bytes) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(HEAD + header + b"\r\nContent-Length: 2\r\n\r\n{}")
        await _check_refusal(client)
        assert worker.requests_for("/generate") == []
