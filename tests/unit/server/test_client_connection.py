import asyncio
import json
import socket
import struct

import pytest
from hfx_router.http1.request_reader import ReadLimits
from hfx_router.server.asgi import Message
from support.client_side import ClientSide, get, post


async def settle() -> None:
    """Let whatever is scheduled for the next turns of the loop happen."""
    for _ in range(3):
        await asyncio.sleep(0)


def error_of(answer: bytes) -> tuple[int, str]:
    """Status and code of an error answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split(b" ")[1]), json.loads(body)["error"]["code"]


async def test_a_request_reaches_its_handler_when_complete() -> None:
    side = ClientSide()
    request = post("/generate", b'{"text":"a"}')
    side.send(request[:-1])
    assert side.handlers == []
    side.send(request[-1:])
    (handler,) = side.handlers
    assert handler.is_started
    assert handler.request.body == b'{"text":"a"}'
    assert not side.connection.is_idle
    handler.answer(b"answer")
    assert side.transport.taken() == b"answer"
    assert side.connection.is_idle
    assert not side.transport.is_closing()


async def test_connections_are_counted() -> None:
    side = ClientSide()
    assert side.recorder.num_connections == 1
    assert side.front.connections == {side.connection}
    assert not side.front.emptied.is_set()
    assert side.transport.high_water_bytes is not None
    side.connection.connection_lost(None)
    assert side.recorder.num_connections == 0
    assert side.front.emptied.is_set()


async def test_pipelined_requests_are_served_one_by_one_in_order() -> None:
    side = ClientSide()
    side.send(get("/1") + get("/2") + get("/3"))
    await settle()
    for number in (1, 2, 3):
        assert side.paths == [b"/%d" % at for at in range(1, number + 1)]
        side.handlers[-1].answer(b"<%d>" % number)
        await settle()
    assert side.transport.taken() == b"<1><2><3>"
    assert side.connection.is_idle


async def test_a_request_that_arrives_while_another_is_served_waits() -> None:
    side = ClientSide()
    side.send(get("/1"))
    side.send(get("/2"))
    await settle()
    assert side.paths == [b"/1"]
    side.handlers[0].answer(b"")
    side.send(get("/3"))  # before the next turn of the loop
    await settle()
    assert side.paths == [b"/1", b"/2"]


async def test_the_answer_says_whether_the_connection_is_kept() -> None:
    side = ClientSide()
    side.send(get("/1") + get("/2"))
    side.handlers[0].answer(b"answer", keep_alive=False)
    await settle()
    assert side.transport.was_closed
    assert not side.transport.was_aborted
    assert side.paths == [b"/1"]


async def test_an_answer_broken_off_does_not_look_complete() -> None:
    side = ClientSide()
    side.send(get("/1"))
    side.connection.write(b"half an ans")
    side.connection.break_off()
    assert side.transport.was_aborted
    linger = side.transport.socket.options[socket.SOL_SOCKET, socket.SO_LINGER]
    assert linger == struct.pack("ii", 1, 0), "a reset, not an orderly end"
    side.connection.connection_lost(None)
    assert not side.handlers[0].is_gone, "it broke off itself"
    side.connection.break_off()


async def test_the_handler_learns_that_the_client_left() -> None:
    side = ClientSide()
    side.send(get("/1") + get("/2"))
    assert side.connection.eof_received() is False
    side.connection.connection_lost(None)
    assert side.handlers[0].is_gone
    side.connection.write(b"too late")
    side.handlers[0].answer(b"too late")
    await settle()
    assert side.transport.taken() == b""
    assert side.paths == [b"/1"], "nobody waits for the second"


async def test_a_slow_client_pauses_its_handler() -> None:
    side = ClientSide()
    side.send(get("/1"))
    side.connection.pause_writing()
    assert side.handlers[0].is_paused
    side.connection.resume_writing()
    assert not side.handlers[0].is_paused


async def test_a_client_that_does_not_read_gets_no_further_answer() -> None:
    side = ClientSide()
    side.send(get("/1") + get("/2"))
    side.connection.pause_writing()
    side.handlers[0].answer(b"much")
    await settle()
    side.send(get("/3"))
    assert side.paths == [b"/1"]
    side.connection.resume_writing()
    await settle()
    assert side.paths == [b"/1", b"/2"]
    side.connection.resume_writing()
    assert side.paths == [b"/1", b"/2"]


async def test_malformed_bytes_are_answered_and_the_connection_closed() -> None:
    side = ClientSide()
    side.send(b"GET nonsense\r\n\r\n")
    assert error_of(side.transport.taken()) == (400, "malformed_http")
    assert side.transport.has_ended
    assert side.handlers == []
    assert list(side.recorder.answers) == [("other", False, 400, "malformed_http")]


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nx: %b\r\n\r\n" % (b"y" * 2000), 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2000\r\n\r\n", 413, "payload_too_large"),
    ],
)
async def test_limits(request_bytes: bytes, status: int, code: str) -> None:
    side = ClientSide(limits=ReadLimits(max_header_bytes=1000, max_body_bytes=1000))
    side.send(request_bytes)
    assert error_of(side.transport.taken()) == (status, code)
    assert side.transport.has_ended


async def test_an_error_waits_for_the_answers_before_it() -> None:
    side = ClientSide()
    side.send(get("/1") + get("/2") + b"nonsense\r\n\r\n")
    side.send(b"more nonsense", get("/3"))
    assert side.transport.taken() == b""
    for number in (1, 2):
        assert side.paths[-1] == b"/%d" % number
        side.handlers[-1].answer(b"<%d>" % number)
        await settle()
    answers = side.transport.taken()
    assert answers.startswith(b"<1><2>HTTP/1.1 400 ")
    assert side.transport.has_ended
    assert side.paths == [b"/1", b"/2"]


async def test_nothing_is_read_from_an_error_to_its_answer() -> None:
    side = ClientSide()
    side.send(get("/1"), b"nonsense\r\n\r\n")
    assert not side.transport.is_reading_now
    side.handlers[0].answer(b"")
    assert not side.transport.is_reading_now


async def test_a_refused_client_may_finish_sending_before_it_is_dropped() -> None:
    side = ClientSide()
    side.send(get("/1"), b"nonsense\r\n\r\n")
    side.handlers[0].answer(b"")
    await settle()
    assert error_of(side.transport.taken()) == (400, "malformed_http")
    assert side.transport.is_reading_now, "what still comes is read and thrown away"
    side.send(get("/2"), b"x" * 100_000)
    side.sweep_after(1.5)
    assert not side.transport.is_closing()
    assert side.paths == [b"/1"]
    side.sweep_after(1.0)
    assert side.transport.is_closing()
    assert side.transport.taken() == b"", "said once"


async def test_nothing_is_read_while_many_requests_wait() -> None:
    side = ClientSide()
    num_sent = 0
    while side.transport.is_reading_now:
        side.send(get(f"/{num_sent}"))
        num_sent += 1
        assert num_sent < 100
    assert num_sent > 10
    side.send(get("/more") * 10)  # was on its way already
    while len(side.handlers) < num_sent + 10:
        side.handlers[-1].answer(b".")
        await settle()
        num_waiting = num_sent + 10 - len(side.handlers)
        assert side.transport.is_reading_now is (num_waiting < num_sent - 2)
    assert side.paths[:num_sent] == [b"/%d" % number for number in range(num_sent)]


async def test_expect_continue() -> None:
    side = ClientSide()
    head = b"POST /1 HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    side.send(head)
    assert side.transport.taken() == b"HTTP/1.1 100 Continue\r\n\r\n"
    side.send(b"{")
    assert side.transport.taken() == b"", "said once"
    side.send(b"}")
    assert side.paths == [b"/1"]


async def test_continue_is_said_in_turn() -> None:
    side = ClientSide()
    head = b"POST /2 HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    side.send(get("/1") + head)
    assert side.transport.taken() == b""
    side.handlers[0].answer(b"<1>")
    await settle()
    assert side.transport.taken() == b"<1>HTTP/1.1 100 Continue\r\n\r\n"
    side.send(b"{}")
    assert side.paths == [b"/1", b"/2"]


class TestDraining:
    async def test_an_idle_connection_is_closed(self) -> None:
        side = ClientSide()
        side.front.drain()
        assert side.transport.was_closed

    async def test_a_request_under_way_is_finished(self) -> None:
        side = ClientSide()
        side.send(get("/1"))
        side.front.drain()
        assert not side.transport.is_closing()
        side.handlers[0].answer(b"answer")
        assert side.transport.taken() == b"answer"
        assert side.transport.has_ended

    async def test_a_request_that_waits_is_refused_with_an_answer(self) -> None:
        side = ClientSide()
        side.send(get("/1") + get("/2"))
        side.handlers[0].answer(b"")
        side.front.drain()
        await settle()
        answer = side.transport.taken()
        assert error_of(answer) == (503, "shutting_down")
        assert b"retry-after: 1\r\n" in answer
        assert side.transport.has_ended
        assert side.paths == [b"/1"]

    async def test_a_request_half_read_is_refused_when_complete(self) -> None:
        side = ClientSide()
        side.send(post("/1")[:-1])
        side.front.drain()
        assert not side.transport.is_closing()
        side.send(post("/1")[-1:])
        assert error_of(side.transport.taken()) == (503, "shutting_down")

    async def test_the_end_of_patience_drops_everybody(self) -> None:
        side = ClientSide()
        side.send(get("/1"))
        side.front.close()
        assert side.transport.was_aborted
        side.connection.connection_lost(None)
        assert side.handlers[0].is_gone


async def test_other_requests_go_to_the_control_plane() -> None:
    async def app(scope: Message, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": scope["raw_path"]})  # type: ignore[operator]

    side = ClientSide(app=app)
    side.send(get("/control/a", "x-request-id: r1") + get("/1"))
    await settle()
    assert side.transport.taken() == (
        b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\nx-request-id: r1\r\n\r\n"
        b"a\r\n/control/a\r\n0\r\n\r\n"
    )
    assert side.paths == [b"/1"]
    assert [key[2] for key in side.recorder.control_answers] == [201]
