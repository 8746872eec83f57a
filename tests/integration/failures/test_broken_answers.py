"""A worker dies after the first byte of its answer, and the client can tell, in every form."""

import asyncio
import json

import pytest
from support.engine import event, sse_answer
from support.raw_client import RawResponse, request_bytes, sse_events
from support.router import RunningRouter, one_pair, one_worker
from support.script import SSE_TYPE, Ending, Script, Step, answer, cut_body

EVENTS = [event({"text": f"t{index}"}) for index in range(3)]
STREAM = b'{"text":"hi","stream":true}'
DEATHS = [Ending.CLOSE, Ending.RESET]


def _framed(*events: bytes) -> int:
    """Return the length of events as chunks, one each."""
    return sum(len(b"%x\r\n%b\r\n" % (len(text), text)) for text in events)


async def _ask(router: RunningRouter, version: bytes = b"1.1") -> RawResponse:
    async with router.client() as client:
        await client.send(
            b"POST /generate HTTP/%b\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (version, len(STREAM), STREAM)
        )
        received = await client.read_head()
        await client.read_rest(received)
        assert await client.is_closed()
        return received


def _check_error_event(received: RawResponse, code: str) -> None:
    """The events that came, one error in valid JSON, and an end without `[DONE]`."""
    assert received.is_complete
    *events, last = sse_events(received.body)
    assert [b"data: " + text + b"\n\n" for text in events] == EVENTS[:2]
    error = json.loads(last)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert b"[DONE]" not in received.body
    assert received.body.endswith(b"\n\n")


@pytest.mark.parametrize("ending", DEATHS)
async def test_stream_that_breaks_between_two_events(ending: Ending) -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(sse_answer(EVENTS), _framed(*EVENTS[:2]), ending))
        received = await _ask(router)
        assert received.framing == "chunked"
        _check_error_event(received, "upstream_unavailable")
        assert len(worker.requests_for("/generate")) == 1
        assert router.worker(worker).num_failed == 1


@pytest.mark.parametrize("ending", DEATHS)
async def test_stream_of_a_pair_that_breaks_between_two_events(ending: Ending) -> None:
    async with one_pair() as (router, prefill, decode):
        decode.queue(cut_body(sse_answer(EVENTS), _framed(*EVENTS[:2]), ending))
        _check_error_event(await _ask(router), "kv_transfer_failed")
        assert len(decode.requests_for("/generate")) == 1
        assert router.worker(prefill).num_failed == 0


BREAKS = {
    "inside a chunk": _framed(EVENTS[0]) + 12,
    "inside the size of a chunk": _framed(EVENTS[0]) + 1,
    "between a chunk and its line end": _framed(EVENTS[0]) - 2,
    "inside the line end of a chunk": _framed(EVENTS[0]) - 1,
}


@pytest.mark.parametrize("ending", DEATHS)
@pytest.mark.parametrize("num_bytes", BREAKS.values(), ids=BREAKS.keys())
async def test_stream_that_breaks_inside_a_chunk_is_cut(num_bytes: int, ending: Ending) -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(sse_answer(EVENTS), num_bytes, ending))
        received = await _ask(router)
        assert not received.is_complete
        assert b"error" not in received.raw
        framed = sse_answer(EVENTS).raw.partition(b"\r\n\r\n")[2]
        assert bytes(received.raw).endswith(framed[:num_bytes])


async def test_stream_that_breaks_inside_an_event_but_between_two_chunks_is_cut() -> None:
    """The client has the beginning of an event: whatever came next would be read as its end."""
    async with one_worker() as (router, worker):
        chunks = [EVENTS[0], EVENTS[1][:9]]
        worker.queue(cut_body(sse_answer(chunks), _framed(*chunks)))
        received = await _ask(router)
        assert not received.is_complete
        assert received.chunks == chunks


async def test_http_10_client_gets_the_error_event_unchunked() -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(sse_answer(EVENTS), _framed(*EVENTS[:2])))
        received = await _ask(router, b"1.0")
        assert received.framing == "close"
        _check_error_event(received, "upstream_unavailable")


async def test_what_an_http_10_client_takes_for_the_end_is_never_a_cut_answer() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        worker.queue(cut_body(sse_answer(EVENTS), _framed(EVENTS[0]) + 12))
        await client.send(b"POST /generate HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}")
        received = await client.read_head()
        assert received.framing == "close"
        with pytest.raises(ConnectionResetError):
            await _drain(client._connected())


async def _drain(sock: object) -> None:
    """Read until the end; unlike RawClient, tell a reset from a close."""
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(sock, 65536):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("ending", DEATHS)
@pytest.mark.parametrize("num_bytes", [1, 50, 99])
async def test_counted_body_that_breaks_is_cut(num_bytes: int, ending: Ending) -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(answer(body=b"x" * 100), num_bytes, ending))
        received = await _ask(router)
        assert received.header("content-length") == b"100"
        assert not received.is_complete
        assert bytes(received.body) == b"x" * num_bytes
        assert len(worker.requests_for("/generate")) == 1


@pytest.mark.parametrize("ending", DEATHS)
async def test_chunked_json_that_breaks_is_cut(ending: Ending) -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(answer(chunks=[b'{"a":', b"1}"]), _framed(b'{"a":'), ending))
        received = await _ask(router)
        assert not received.is_complete
        assert bytes(received.body) == b'{"a":'


async def test_body_without_framing_that_is_reset_is_cut() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        head = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n"
        worker.queue(Script(steps=(Step(data=head + b'{"a":'),), ending=Ending.RESET))
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        with pytest.raises(ConnectionResetError):
            await _drain(client._connected())


@pytest.mark.parametrize("leg", ["regular", "decode"])
async def test_framing_that_turns_to_garbage_is_cut(leg: str) -> None:
    """Bytes that never reached the client must not be taken for a place to put an error in."""
    head = answer(headers=[SSE_TYPE], chunks=[]).steps[0].data
    script = Script(
        steps=(
            Step(data=head + b"%x\r\n%b" % (len(EVENTS[0]), EVENTS[0][:-1])),
            Step(data=b"\n\r\nnot a size\r\n", delay_s=0.01),
        ),
        ending=Ending.STALL,
    )
    if leg == "regular":
        async with one_worker() as (router, worker):
            worker.queue(script)
            received = await _ask(router)
    else:
        async with one_pair() as (router, _, worker):
            worker.queue(script)
            received = await _ask(router)
    assert not received.is_complete
    assert b"error" not in received.raw
    assert received.chunks in ([], [EVENTS[0]])
