from collections.abc import Callable

import pytest
from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.upstream.connection import MAX_HEAD_BYTES, LegFailure, UpstreamConnection
from support.cuts import cut
from support.fake_transport import FakeTransport
from support.worker_side import RecordingSink, WorkerSide

REQUEST = b"POST /generate HTTP/1.1\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nhello"


class Wire:
    """One request on its way over one connection."""

    def __init__(self, sink: RecordingSink | None = None, *, is_first: bool = True) -> None:
        self.side = WorkerSide()
        self.connection: UpstreamConnection
        self.transport: FakeTransport
        if is_first:
            self.connection, self.transport = self.side.open()
        else:
            self.connection, self.transport = self.side.open_idle()
            assert self.side.pool.take_idle() is self.connection
        self.sink = sink or RecordingSink()
        self.connection.send(REQUEST, self.sink)
        self.receive = self.connection.data_received

    @property
    def is_reusable(self) -> bool:
        return self.side.pool.take_idle() is self.connection and not self.transport.is_closing()


def test_sends_the_request_as_it_is() -> None:
    wire = Wire()
    assert wire.transport.taken() == REQUEST
    assert wire.connection.num_requests == 1


@pytest.mark.parametrize(
    ("answer", "body", "payload"),
    [
        (LENGTH, b"hello", b"hello"),
        (CHUNKED, b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH, b"hello", b"hello"),
        (b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" * 3 + LENGTH, b"hello", b"hello"),
    ],
)
@pytest.mark.parametrize("size_bytes", [1, 5, 1000])
def test_an_answer_ends_and_the_connection_is_kept(
    answer: bytes, body: bytes, payload: bytes, size_bytes: int
) -> None:
    wire = Wire(RecordingSink(wants_payload=True))
    for piece in cut(answer, size_bytes):
        assert wire.sink.outcome is None
        wire.receive(piece)
    assert wire.sink.head is not None
    assert wire.sink.head.status in (200, 204)
    assert wire.sink.wire == body
    assert wire.sink.payload == payload
    assert wire.sink.outcome == "end"
    assert wire.side.pool.num_idle == 1
    assert wire.is_reusable


def test_the_connection_is_free_before_the_end_is_told() -> None:
    class Next(RecordingSink):
        def on_end(self) -> None:
            super().on_end()
            again = wire.side.pool.take_idle()
            assert again is wire.connection
            again.send(b"next", second)

    second = RecordingSink()
    wire = Wire(Next())
    wire.receive(LENGTH)
    assert wire.transport.taken() == REQUEST + b"next"
    wire.receive(LENGTH.replace(b"200", b"404"))
    assert second.outcome == "end"
    assert second.head is not None
    assert second.head.status == 404
    assert wire.sink.wire == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n"),
        LENGTH.replace(b"HTTP/1.1", b"HTTP/1.0"),
        LENGTH + b"!",
        CHUNKED + b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc",
    ],
    ids=["close", "http 1.0", "surplus", "unasked answer", "body of 204"],
)
@pytest.mark.parametrize("size_bytes", [1, 1000])
def test_a_connection_that_cannot_be_kept_is_closed(answer: bytes, size_bytes: int) -> None:
    wire = Wire()
    for piece in cut(answer, size_bytes):
        wire.receive(piece)
    assert wire.sink.outcome == "end"
    assert len(wire.sink.wire) <= len(b"3\r\nabc\r\n0\r\n\r\n"), "surplus is not passed on"
    assert not wire.is_reusable
    assert wire.transport.was_aborted
    assert not wire.connection.is_open


def test_a_body_until_close_ends_with_the_connection() -> None:
    wire = Wire()
    wire.receive(UNTIL_CLOSE)
    assert wire.sink.outcome is None
    assert wire.connection.eof_received() is False
    wire.connection.connection_lost(None)
    assert wire.sink.outcome == "end"
    assert wire.sink.wire == b"hello"
    assert wire.side.pool.num_open == 0
    assert not wire.is_reusable


def test_a_broken_connection_ends_no_body() -> None:
    wire = Wire()
    wire.receive(UNTIL_CLOSE)
    wire.connection.connection_lost(ConnectionResetError())
    assert wire.sink.outcome is LegFailure.RESET


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
def test_an_answer_that_is_cut_off_is_lost(answer: bytes, exc: Exception | None) -> None:
    for num_bytes in range(1, len(answer)):
        wire = Wire(is_first=num_bytes % 2 == 0)
        wire.receive(answer[:num_bytes])
        wire.connection.connection_lost(exc)
        assert wire.sink.outcome is LegFailure.RESET


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
def test_without_an_answer_only_a_used_connection_is_stale(exc: Exception | None) -> None:
    for is_first, failure in ((True, LegFailure.RESET), (False, LegFailure.STALE)):
        wire = Wire(is_first=is_first)
        wire.connection.connection_lost(exc)
        assert wire.sink.outcome is failure
        assert wire.side.pool.num_open == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size_bytes", [1, 10_000])
def test_what_is_no_http_is_a_protocol_failure(answer: bytes, size_bytes: int) -> None:
    wire = Wire()
    for piece in cut(answer, size_bytes):
        wire.receive(piece)
    assert wire.sink.outcome is LegFailure.PROTOCOL
    assert wire.transport.was_aborted
    wire.connection.connection_lost(None)
    assert wire.sink.outcome is LegFailure.PROTOCOL, "told once"


@pytest.mark.parametrize("size_bytes", [3, 1000, 200_000])
@pytest.mark.parametrize(("num_bytes", "fits"), [(0, True), (1, False), (10_000, False)])
def test_the_head_has_a_limit(num_bytes: int, fits: bool, size_bytes: int) -> None:
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: "
    head = start + b"y" * (MAX_HEAD_BYTES + num_bytes - len(start)) + b"\r\n\r\n"
    wire = Wire()
    for piece in cut(head, size_bytes):
        wire.receive(piece)
    assert wire.sink.outcome == ("end" if fits else LegFailure.PROTOCOL)


def test_a_head_that_never_ends_is_refused() -> None:
    wire = Wire()
    wire.receive(b"HTTP/1.1 200 OK\r\n")
    for _ in range(MAX_HEAD_BYTES // 1000 + 1):
        wire.receive(b"x: %b\r\n" % (b"y" * 995))
    assert wire.sink.outcome is LegFailure.PROTOCOL


def test_a_worker_that_talks_out_of_turn_is_not_used_again() -> None:
    side = WorkerSide()
    connection, transport = side.open_idle()
    connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert transport.was_aborted
    assert side.pool.take_idle() is None
    connection.connection_lost(None)
    assert (side.pool.num_open, side.pool.num_idle) == (0, 0)


def test_abandoning_closes_and_tells_nobody() -> None:
    wire = Wire()
    wire.receive(LENGTH[:-1])
    wire.connection.abandon()
    assert wire.transport.was_aborted
    wire.receive(b"o")
    wire.connection.connection_lost(None)
    assert wire.sink.outcome is None
    assert wire.sink.wire == b"hell"
    assert not wire.is_reusable


def test_a_sink_may_abandon_at_any_call() -> None:
    class Leaving(RecordingSink):
        def __init__(self, call: str) -> None:
            super().__init__()
            self._call = call

        def on_head(self, head: ResponseHead) -> PayloadSink | None:
            on_payload = super().on_head(head)
            self._leave("head")
            return on_payload

        def on_body(self, data: bytes) -> None:
            super().on_body(data)
            self._leave("body")

        def _leave(self, call: str) -> None:
            if self._call == call:
                wire.connection.abandon()

    for call, body in (("head", b""), ("body", b"3\r\nabc\r\n0\r\n\r\n")):
        wire = Wire(Leaving(call))
        wire.receive(CHUNKED)
        wire.connection.connection_lost(None)
        assert wire.sink.outcome is None
        assert wire.sink.wire == body
        assert not wire.is_reusable


def test_pause_and_resume() -> None:
    wire = Wire()
    wire.receive(CHUNKED[:-5])
    for step, is_reading in (
        (wire.connection.resume, True),
        (wire.connection.pause, False),
        (wire.connection.pause, False),
        (wire.connection.resume, True),
        (wire.connection.pause, False),
    ):
        step()
        assert wire.transport.is_reading_now is is_reading
    wire.receive(CHUNKED[-5:])  # was on its way already
    assert wire.sink.outcome == "end"
    assert wire.transport.is_reading_now, "the next request does not inherit the pause"
    assert wire.is_reusable


@pytest.mark.parametrize("step", [UpstreamConnection.pause, UpstreamConnection.resume])
def test_pausing_a_closed_connection_does_nothing(
    step: Callable[[UpstreamConnection], None],
) -> None:
    wire = Wire()
    wire.connection.pause()
    wire.connection.abandon()
    step(wire.connection)
    assert not wire.transport.is_reading_now


def test_says_whether_a_chunk_could_follow() -> None:
    wire = Wire()
    aligned = []
    for byte in cut(CHUNKED, 1):
        aligned.append(wire.connection.can_append)
        wire.receive(byte)
    head_bytes = CHUNKED.index(b"3\r\nabc")
    assert [at - head_bytes for at, can in enumerate(aligned) if can] == [0, len(b"3\r\nabc\r\n")]
    assert not wire.connection.can_append, "it is complete"

    wire = Wire()
    wire.receive(LENGTH[:-1])
    assert not wire.connection.can_append


def test_after_broken_framing_no_chunk_can_follow() -> None:
    wire = Wire()
    head, _, _ = CHUNKED.partition(b"3\r\nabc")
    wire.receive(head)
    assert wire.connection.can_append
    wire.receive(b"3\r\nabc\r\nxyz\r\n")
    assert wire.sink.outcome is LegFailure.PROTOCOL
    assert not wire.connection.can_append
