"""What a client receives of a worker's answer: status, headers, body and framing as they came."""

import asyncio

import pytest
from support.engine import event, sse_answer
from support.inference import DONE
from support.raw_client import sse_events
from support.router import one_worker
from support.script import SSE_TYPE, Ending, Script, Step, answer

OUTSIDE_THE_RETRIES = [200, 201, 299, 301, 400, 401, 403, 404, 409, 422, 431, 499, 500, 501, 505]


@pytest.mark.parametrize("status", OUTSIDE_THE_RETRIES)
async def test_status_headers_and_body_survive(status: int) -> None:
    body = b'{"object":"error",  "message":"\xc3\xa9","code":%d}' % status
    headers = [
        (b"X-Custom-Header", b"  spaced value "),
        (b"content-type", b"application/vnd.custom+json"),
        (b"X-Custom-Header", b"again"),
        (b"Set-Cookie", b"a=b"),
        (b"retry-after", b"7"),
    ]
    async with one_worker() as (router, worker):
        worker.queue(answer(status=status, headers=headers, body=body))
        received = await router.post("/generate")
        assert received.status == status
        assert bytes(received.body) == body
        wire = bytes(received.raw)
        start = wire.index(b"\r\n") + 2
        assert wire[start:].startswith(
            b"X-Custom-Header:   spaced value \r\n"
            b"content-type: application/vnd.custom+json\r\n"
            b"X-Custom-Header: again\r\n"
            b"Set-Cookie: a=b\r\n"
            b"retry-after: 7\r\n"
            b"content-length: %d\r\n" % len(body)
        )
        assert len(worker.requests_for("/generate")) == 1


async def test_the_reason_phrase_survives() -> None:
    async with one_worker() as (router, worker):
        head = b"HTTP/1.1 418 Kettle On\r\ncontent-length: 0\r\n\r\n"
        worker.queue(Script(steps=(Step(data=head),), ending=Ending.KEEP))
        received = await router.post("/generate")
        assert bytes(received.raw).startswith(b"HTTP/1.1 418 Kettle On\r\n")


async def test_connection_headers_of_a_worker_stay_with_it() -> None:
    async with one_worker() as (router, worker):
        hop_by_hop = [
            (b"connection", b"keep-alive"),
            (b"keep-alive", b"timeout=5"),
            (b"upgrade", b"h2c"),
            (b"proxy-authenticate", b"Basic"),
        ]
        worker.queue(answer(headers=[*hop_by_hop, (b"x-kept", b"1")], body=b"{}"))
        async with router.client() as client:
            await client.send(_post())
            received = await client.read_response()
            assert received.header("x-kept") == b"1"
            for name, _ in hop_by_hop:
                assert received.header(name.decode()) is None


def _post(path: str = "/generate") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}" % path.encode()


async def test_a_counted_body_stays_counted() -> None:
    async with one_worker() as (router, worker):
        worker.queue(answer(body=b"x" * 300_000))
        received = await router.post("/generate")
        assert received.framing == "length"
        assert received.header("transfer-encoding") is None
        assert bytes(received.body) == b"x" * 300_000


async def test_a_chunked_body_keeps_its_chunks() -> None:
    chunks = [b"a", b"bb" * 1000, b"c" * 70_000]
    async with one_worker() as (router, worker):
        worker.queue(answer(chunks=chunks))
        received = await router.post("/generate")
        assert received.framing == "chunked"
        assert received.chunks == chunks
        assert received.is_complete


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body(status: int) -> None:
    async with one_worker() as (router, worker):
        head = b"HTTP/1.1 %d Nothing\r\nx-a: 1\r\n\r\n" % status
        worker.queue(Script(steps=(Step(data=head),), ending=Ending.KEEP))
        async with router.client() as client:
            for expected in (status, 200):  # the connection is good for more
                await client.send(_post())
                received = await client.read_response()
                assert (received.status, received.is_complete) == (expected, True)


async def test_an_empty_body() -> None:
    async with one_worker() as (router, worker):
        worker.queue(answer(status=400, body=b""), answer(chunks=[]))
        assert (await router.post("/generate")).header("content-length") == b"0"
        empty = await router.post("/generate")
        assert empty.framing == "chunked"
        assert empty.is_complete
        assert empty.body == b""


async def test_events_are_passed_on_before_the_stream_ends() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    events = [event({"text": f"t{index}"}) for index in range(3)]
    whole = answer(headers=[SSE_TYPE], chunks=[*events, DONE])
    head, *chunks = whole.steps
    steps = [Step(data=head.data)]
    steps += [Step(data=c.data, gate=g) for c, g in zip(chunks[:3], gates, strict=True)]
    steps += chunks[3:]
    async with one_worker() as (router, worker):
        worker.queue(Script(steps=tuple(steps), ending=Ending.KEEP))
        async with router.client() as client:
            await client.send(_post())
            received = None
            for gate, sent in zip(gates, events, strict=True):
                gate.set()
                received = received or await client.read_head()
                assert await client.next_chunk(received) == sent
                assert not received.is_complete
            assert received is not None
            await client.read_rest(received)
            assert received.is_complete
            assert sse_events(received.body)[-1] == b"[DONE]"
            assert received.header("content-type") == SSE_TYPE[1]


async def test_a_stream_is_the_workers_byte_for_byte() -> None:
    events = [event({"i": index}) for index in range(50)]
    async with one_worker() as (router, worker):
        worker.queue(sse_answer([b": comment\n\n", *events, DONE]))
        received = await router.post("/v1/chat/completions", b'{"stream":true}')
        assert bytes(received.body) == b"".join([b": comment\n\n", *events, DONE])
        assert received.chunks == [b": comment\n\n", *events, DONE]


@pytest.mark.parametrize("piece_bytes", [1, 7])
async def test_an_answer_that_arrives_in_small_pieces(piece_bytes: int) -> None:
    whole = answer(headers=[SSE_TYPE], chunks=[event({"text": "hello"}), DONE]).raw
    steps = tuple(
        Step(data=whole[start : start + piece_bytes]) for start in range(0, len(whole), piece_bytes)
    )
    async with one_worker() as (router, worker):
        worker.queue(Script(steps=steps, ending=Ending.KEEP))
        received = await router.post("/generate", b'{"stream":true}')
        assert received.chunks == [event({"text": "hello"}), DONE]
        assert received.is_complete


async def test_worker_headers_name_the_worker_only_when_asked_for() -> None:
    async with one_worker() as (router, _):
        assert (await router.post()).header("x-hfx-worker") is None
    async with one_worker("--response-worker-headers") as (router, worker):
        assert (await router.post()).header("x-hfx-worker") == worker.url.encode()
