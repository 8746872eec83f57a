import asyncio
import json

import pytest
from hfx_router.server.front import ClientTimeouts
from support.client_side import ClientSide, get, post

TIMEOUTS = ClientTimeouts(header_s=30.0, body_s=120.0, idle_s=75.0, write_s=300.0)


@pytest.fixture
async def side() -> ClientSide:
    return ClientSide(timeouts=TIMEOUTS)


def refusal(side: ClientSide) -> str | None:
    """The option that a 408 names; None while there is none."""
    answer = side.transport.taken()
    if not answer:
        assert not side.transport.has_ended
        return None
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert side.transport.has_ended
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "request_read_timeout"
    return str(error["message"].rpartition("(")[2].rstrip(")"))


def test_headers_have_a_time_in_all(side: ClientSide) -> None:
    for piece in (b"GET ", b"/1 ", b"HTTP/1.1\r\n"):
        side.send(piece)
        side.sweep_after(10.0)
        assert refusal(side) is None
    side.sweep_after(0.5)
    assert refusal(side) == "--client-header-timeout-secs"
    assert list(side.recorder.answers) == [("other", False, 408, "request_read_timeout")]


def test_a_body_may_pause_but_not_for_long(side: ClientSide) -> None:
    request = post("/1", b"123")
    for at in (-3, -2):
        side.send(request[:at] if at == -3 else request[-3:-2])
        side.sweep_after(119.0)
        assert refusal(side) is None
    side.sweep_after(2.0)
    assert refusal(side) == "--client-body-timeout-secs"
    assert side.handlers == []


def test_a_head_completed_in_time_is_forgotten(side: ClientSide) -> None:
    side.send(get("/1")[:10])
    side.sweep_after(29.0)
    side.send(get("/1")[10:])
    side.handlers[0].answer(b"")
    side.sweep_after(60.0)
    assert not side.transport.is_closing()


def test_each_head_has_its_own_time(side: ClientSide) -> None:
    requests = b"".join(post(f"/{number}") for number in range(4))
    size_bytes = len(post("/0"))
    side.send(requests[:10])
    for at in range(10, 3 * size_bytes, size_bytes):  # each piece ends inside a head
        side.sweep_after(20.0)
        assert refusal(side) is None
        side.send(requests[at : at + size_bytes])
        side.handlers[-1].answer(b"")
        side.transport.taken()
    side.sweep_after(31.0)
    assert refusal(side) == "--client-header-timeout-secs"


def test_an_idle_connection_is_closed_without_a_word(side: ClientSide) -> None:
    side.sweep_after(75.0)
    assert not side.transport.is_closing()
    side.sweep_after(0.5)
    assert side.transport.was_closed
    assert side.transport.taken() == b""
    assert not side.recorder.answers


def test_idleness_begins_with_the_end_of_an_answer(side: ClientSide) -> None:
    side.send(get("/1"))
    side.sweep_after(1000.0)
    assert not side.transport.is_closing(), "a request is being served"
    side.handlers[0].answer(b"")
    side.sweep_after(74.0)
    assert not side.transport.is_closing()
    side.sweep_after(2.0)
    assert side.transport.was_closed


def test_a_client_that_reads_nothing_is_dropped(side: ClientSide) -> None:
    side.send(get("/1"))
    side.connection.pause_writing()
    side.sweep_after(299.0)
    assert not side.transport.is_closing()
    side.connection.resume_writing()
    side.sweep_after(299.0)
    side.connection.pause_writing()
    side.sweep_after(299.0)
    assert not side.transport.is_closing(), "it read in between"
    side.sweep_after(2.0)
    assert side.transport.was_aborted


async def test_so_is_one_whose_answer_is_complete(side: ClientSide) -> None:
    side.send(get("/1") + get("/2"))
    side.connection.pause_writing()
    side.handlers[0].answer(b"much")
    await asyncio.sleep(0)
    side.sweep_after(299.0)
    assert not side.transport.is_closing(), "its time to read is longer than that to be idle"
    side.sweep_after(2.0)
    assert side.transport.was_aborted


def test_closing_does_not_wait_for_the_client_for_ever(side: ClientSide) -> None:
    side.send(get("/1"))
    side.handlers[0].answer(b"much", keep_alive=False)
    assert side.transport.was_closed
    side.sweep_after(299.0)
    assert not side.transport.was_aborted
    side.sweep_after(2.0)
    assert side.transport.was_aborted


def test_a_refusal_is_said_once(side: ClientSide) -> None:
    side.send(b"GET ")
    side.sweep_after(31.0)
    assert refusal(side) is not None
    side.sweep_after(31.0)
    assert side.transport.taken() == b""
    assert sum(histogram.num_observed for histogram in side.recorder.answers.values()) == 1
