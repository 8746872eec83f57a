"""Workers that do not keep to HTTP: what still works, what is refused, and that nothing is left."""

import json

import pytest
from support.raw_client import request_bytes
from support.router import one_pair, one_worker
from support.script import Ending, Script, Step, answer, dribbled, garbage, huge_head, preceded

OK = answer(body=b'{"ok":1}').raw


def _raw(data: bytes, ending: Ending = Ending.KEEP) -> Script:
    return Script(steps=(Step(data=data),), ending=ending)


NOT_HTTP = {
    "garbage": garbage(),
    "an old protocol": garbage(b"HTTP/0.9 200 OK\r\n\r\n"),
    "another protocol": garbage(b"HTTP/2 200 OK\r\n\r\n"),
    "no status": garbage(b"HTTP/1.1 OK\r\n\r\n"),
    "a header without a colon": garbage(b"HTTP/1.1 200 OK\r\nhello\r\n\r\n"),
    "a header name with a space": garbage(b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n"),
    "a folded header": garbage(b"HTTP/1.1 200 OK\r\nx: y\r\n z\r\n\r\n"),
    "a huge head": huge_head(70_000),
    "two lengths": garbage(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
    "a length and chunks": garbage(
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"
    ),
    "a negative length": garbage(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    "an unknown coding": garbage(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"),
    "another protocol that nobody asked for": garbage(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    "a head without an end": _raw(b"HTTP/1.1 200 OK\r\nx: y\r\n", Ending.CLOSE),
    "a chunk size that is none": garbage(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    ),
}


@pytest.mark.parametrize("script", NOT_HTTP.values(), ids=NOT_HTTP.keys())
async def test_what_is_no_answer_is_a_502(script: Script) -> None:
    async with one_worker("--disable-retries") as (router, worker), router.client() as client:
        worker.queue(script)
        for status in (502, 200):  # the client's connection is none the worse for it
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            received = await client.read_response()
            assert received.status == status
            if status == 502:
                error = json.loads(received.body)["error"]
                assert (error["type"], error["code"]) == ("upstream_error", "upstream_unavailable")
        requests = worker.requests_for("/generate")
        assert requests[0].connection_id != requests[1].connection_id
        assert router.worker(worker).num_failed == 1


async def test_a_large_head_within_the_limit() -> None:
    async with one_worker() as (router, worker):
        worker.queue(huge_head(60_000))
        assert len((await router.post()).header("x-huge") or b"") == 60_000


INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
]


@pytest.mark.parametrize("data", INTERIM)
@pytest.mark.parametrize("is_slow", [False, True])
async def test_interim_answers_are_left_out(data: bytes, is_slow: bool) -> None:
    async with one_worker() as (router, worker):
        script = preceded(answer(body=b'{"ok":1}'), data)
        worker.queue(dribbled(script) if is_slow else script)
        received = await router.post()
        assert (received.status, received.interim) == (200, [])
        assert bytes(received.body) == b'{"ok":1}'


@pytest.mark.parametrize(
    ("head", "is_kept"),
    [
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 2\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", True),
    ],
)
async def test_whether_a_worker_connection_is_used_again(head: bytes, is_kept: bool) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(*[_raw(head + b"{}")] * 2)
        for _ in range(2):
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            received = await client.read_response()
            assert bytes(received.raw).startswith(b"HTTP/1.1 200 OK\r\n")
            assert bytes(received.body) == b"{}"
            assert received.header("connection") is None
        ids = {request.connection_id for request in worker.requests_for("/generate")}
        assert len(ids) == (1 if is_kept else 2)


async def test_a_body_that_ends_with_the_connection() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(answer(body=b"all of it", is_framed=False, version=b"HTTP/1.0"))
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        received = await client.read_response()
        assert received.framing == "close"
        assert received.header("connection") == b"close"
        assert bytes(received.body) == b"all of it"


@pytest.mark.parametrize(
    "surplus", [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged", b"\r\n"]
)
async def test_bytes_after_an_answer_answer_nobody(surplus: bytes) -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(_raw(OK + surplus))
        for expected in (b'{"ok":1}', b'{"ok":2}'):
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            assert bytes((await client.read_response()).body) == expected
            worker.queue(answer(body=b'{"ok":2}'))
        requests = worker.requests_for("/generate")
        assert requests[0].connection_id != requests[1].connection_id


async def test_bytes_on_an_idle_connection_close_it() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(
            Script(
                steps=(Step(data=OK), Step(data=b"HTTP/1.1 408 Too late\r\n\r\n", delay_s=0.02)),
                ending=Ending.STALL,
            )
        )
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        assert (await client.read_response()).status == 200
        await worker.wait_disconnect(worker.requests_for("/generate")[0])
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        assert (await client.read_response()).status == 200
        assert router.worker(worker).num_failed == 0


async def test_an_answer_before_the_body_was_sent() -> None:
    async with one_worker() as (router, worker):
        worker.queue(_raw(answer(status=413, body=b"{}").raw, Ending.CLOSE))
        received = await router.post("/generate", b'{"text":"%b"}' % (b"x" * 3_000_000))
        assert received.status == 413


@pytest.mark.parametrize("failing", ["prefill", "decode"])
async def test_garbage_from_one_leg_of_a_pair(failing: str) -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        (prefill if failing == "prefill" else decode).queue(garbage())
        if failing == "prefill":
            decode.respond = lambda request: Script() if request.method == "POST" else None
        received = await router.post()
        assert received.status == 502
        assert failing in json.loads(received.body)["error"]["message"]
        decode.respond = None
        await router.until_legs_are_over()
        assert (await router.post()).status == 200
