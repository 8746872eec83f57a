"""Bytes that are not HTTP/1.1, and what else arrives at an open port."""

import json
import random

import pytest
from support.raw_client import request_bytes
from support.router import eventually, one_worker

TLS_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(200))

NOT_SERVED = {
    "TLS": TLS_HELLO,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "an unknown method": b"FETCH / HTTP/1.1\r\n\r\n",
    "a method in lower case": b"post /generate HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "a version in lower case": b"GET / http/1.1\r\n\r\n",
    "a target with a space": b"GET /a b HTTP/1.1\r\n\r\n",
    "a target with a control character": b"GET /\x01 HTTP/1.1\r\n\r\n",
    "a target that is no path": b"GET generate HTTP/1.1\r\n\r\n",
    "CONNECT": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    "null bytes": bytes(100),
    "JSON without HTTP": b'{"text":"hi"}\r\n\r\n',
    "an answer": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_SERVED.values(), ids=NOT_SERVED.keys())
async def test_other_protocols_are_refused_in_http(data: bytes) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(data)
        received = await client.read_response()
        assert received.status == 400
        assert json.loads(received.body)["error"]["code"] == "malformed_http"
        assert await client.is_closed()
        assert [request for request in worker.requests if request.method == "POST"] == []


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE", "SUBSCRIBE", "SEARCH"])
async def test_methods_that_nobody_serves(method: str) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(request_bytes(method, "/generate", body=b"{}"))
        received = await client.read_response()
        assert received.status == 405
        assert worker.requests_for("/generate") == []


async def test_empty_lines_before_a_request_are_skipped() -> None:
    async with one_worker() as (router, _), router.client() as client:
        for _ in range(2):
            await client.send(b"\r\n\r\n" + request_bytes("POST", "/generate", body=b"{}"))
            assert (await client.read_response()).status == 200


async def test_odd_but_legal_requests() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        body = b'{"text":"hi"}'
        for head in (
            b"POST /generate HTTP/1.1\r\n",  # no host
            b"POST /generate HTTP/1.1\r\nHOST:x\r\nX-Empty:\r\n",
            b"POST /generate HTTP/1.1\r\nhost: x\r\nX: \xc3\xa9\xff\r\n",
            b"POST /generate#fragment HTTP/1.1\r\nhost: x\r\n",
        ):
            await client.send(head + b"CONTENT-length:   13  \r\n\r\n" + body)
            received = await client.read_response()
            assert received.status in (200, 404)
        assert {request.body for request in worker.requests_for("/generate")} == {body}


async def test_a_thousand_garbage_connections_leave_nothing_behind() -> None:
    rng = random.Random(7)
    starts = [*NOT_SERVED.values(), request_bytes("POST", "/generate", body=b'{"text":"hi"}')]
    async with one_worker("--max-payload-size", "1000") as (router, worker):
        connections = router.router._front.connections
        for number in range(1000):
            start = rng.choice(starts)
            cut = start[: rng.randrange(len(start) + 1)]
            noise = rng.randbytes(rng.randrange(50))
            async with router.client() as client:
                await client.send(cut + (noise if number % 2 else b""))
                if number % 3 == 0:
                    client.reset()
            if number % 100 == 0:
                assert await eventually(lambda: len(connections) < 20)
        assert await router.settled() == {}
        assert router.open_breakers() == []
        assert router.router.registry.usable(router.worker(worker).role)
        assert (await router.post()).status == 200
