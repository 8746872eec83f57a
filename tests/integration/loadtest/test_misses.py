"""Whatever keeps an answer from being whole makes it a miss, with the reason."""

import asyncio
import socket
import struct

import pytest
from support.load import load, planned
from support.planned_server import (
    DONE,
    FINISH,
    HEAD,
    ROLE,
    PlannedServer,
    Serve,
    Served,
    chunk,
    serve_whole,
    text_event,
    usage_event,
)

from hfx_sgl.errors import LoadTestError
from hfx_sgl.loadtest.settings import OutputLengths, TokenCount
from hfx_sgl.results.record import Status

END = b"0\r\n\r\n"


def plain(status: str, body: bytes, extra: str = "") -> Serve:
    async def serve(served: Served) -> None:
        await served.put_plain(status, body, extra)

    return serve


def stream(*events: bytes, end: bytes = END) -> Serve:
    async def serve(served: Served) -> None:
        await served.put(HEAD + b"".join(map(chunk, events)) + end)
        if end != END:
            served.writer.close()

    return serve


async def reset(served: Served) -> None:
    await served.put(HEAD + chunk(text_event()))
    await asyncio.sleep(0.02)
    raw: socket.socket = served.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    served.writer.transport.abort()


async def close_at_once(served: Served) -> None:
    served.writer.close()


TEXT = text_event()


@pytest.mark.parametrize(
    ("serve", "status", "error"),
    [
        (plain("429 Too Many Requests", b'{"error":"full"}'), Status.REJECTED, 'HTTP 429: {"err'),
        (plain("503 Service Unavailable", b""), Status.REJECTED, "HTTP 503"),
        (plain("500 Internal Server Error", b"boom"), Status.FAILED, "HTTP 500: boom"),
        (plain("404 Not Found", b"no"), Status.FAILED, "HTTP 404"),
        (plain("200 OK", b'{"choices":[]}'), Status.FAILED, "not an event stream"),
        (stream(ROLE, TEXT, b'data: {"error":{"message":"lost"}}\n\n'), Status.FAILED, "lost"),
        (stream(TEXT, TEXT, TEXT, TEXT, FINISH), Status.FAILED, "without [DONE]"),
        (stream(TEXT, TEXT, end=b""), Status.FAILED, "closed before the end"),
        (stream(TEXT, TEXT, end=b"40\r\ndata: cut"), Status.FAILED, "closed before the end"),
        (stream(TEXT, end=b"no chunk\r\n"), Status.FAILED, "malformed answer"),
        (stream(TEXT, TEXT, FINISH, usage_event(2), DONE), Status.FAILED, "2 of 4 tokens"),
        (stream(ROLE, DONE), Status.FAILED, "no output"),
        (reset, Status.FAILED, "connection lost"),
        (close_at_once, Status.FAILED, "closed before the end"),
    ],
)
async def test_a_miss_and_its_reason(
    server: PlannedServer, serve: Serve, status: Status, error: str
) -> None:
    server.plans["bad"] = serve
    harvest = await load(server.url, [planned(0, kind="bad"), planned(1, at_s=0.1)])
    record = harvest.records[0]
    assert record.status is status
    assert record.error is not None
    assert error in record.error
    assert record.e2e_s is None
    assert not record.is_attained
    assert harvest.records[1].status is Status.OK
    assert harvest.most_frequent_errors() == [(record.error, 1)]


async def test_an_answer_may_be_framed_by_the_end_of_its_connection(server: PlannedServer) -> None:
    async def serve(served: Served) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
        await served.put(head + 4 * TEXT + FINISH + DONE)
        served.writer.close()

    server.plans["unframed"] = serve
    harvest = await load(server.url, [planned(0, kind="unframed")])
    assert harvest.records[0].status is Status.OK
    assert harvest.records[0].output_tokens == 4


async def test_interim_answers_are_passed_over(server: PlannedServer) -> None:
    async def serve(served: Served) -> None:
        await served.put(b"HTTP/1.1 103 Early Hints\r\ncontent-length: 5\r\n\r\n")
        await serve_whole(served)

    server.plans["hints"] = serve
    harvest = await load(server.url, [planned(0, kind="hints")])
    assert harvest.records[0].status is Status.OK


async def test_a_model_may_end_where_it_ends(server: PlannedServer) -> None:
    server.plans["short"] = stream(TEXT, TEXT, FINISH, usage_event(2), DONE)
    harvest = await load(
        server.url, [planned(0, kind="short")], output_lengths=OutputLengths.NATURAL
    )
    assert harvest.records[0].status is Status.OK
    assert harvest.records[0].output_tokens == 2


async def test_events_are_counted_where_asked(server: PlannedServer) -> None:
    server.plans["two"] = stream(TEXT, TEXT, FINISH, usage_event(4), DONE)
    by_usage = await load(server.url, [planned(0, kind="two")])
    by_events = await load(server.url, [planned(0, kind="two")], token_count=TokenCount.EVENTS)
    assert by_usage.records[0].output_tokens == 4
    assert by_usage.records[0].status is Status.OK
    assert by_events.records[0].output_tokens == 2


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        harvest = await load(url, [planned(0)])
        assert harvest.records[0].status is Status.FAILED
        assert harvest.records[0].error is not None
        assert "cannot connect" in harvest.records[0].error
        with pytest.raises(LoadTestError, match="warm-up: cannot connect"):
            await load(url, [planned(0)], num_warmup_requests=1)


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    server: PlannedServer,
) -> None:
    async def serve(served: Served) -> None:
        await serve_whole(served)
        served.writer.close()

    server.plans["last"] = serve
    requests = [planned(number, at_s=number * 0.1, kind="last") for number in range(3)]
    harvest = await load(server.url, requests)
    assert [record.status for record in harvest.records.values()] == [Status.OK] * 3
    assert server.num_connections == 3
