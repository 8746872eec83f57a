from dataclasses import dataclass

from hfx_router.upstream.connection import LegFailure
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuts import pieces_of
from support.worker_side import RecordingSink, WorkerSide


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker sends, and what it means."""

    wire: bytes
    body: bytes
    payload: bytes
    status: int
    ends_by_closing: bool
    is_reusable: bool


@st.composite
def worker_answers(draw: st.DrawFn) -> Answer:
    status = draw(st.sampled_from([200, 200, 400, 503, 204]))
    payload = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["length", "chunked", "until close"]))
    closes = draw(st.booleans())
    lines = ["x-a: 1"] + (["connection: close"] if closes else [])
    if status == 204:
        framing, payload, body = "none", b"", b""
    elif framing == "length":
        lines.append(f"content-length: {len(payload)}")
        body = payload
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        chunks = draw(pieces_of(payload))
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in chunks) + b"0\r\n\r\n"
    else:
        body = payload
    interim = draw(st.sampled_from(["", "", "HTTP/1.1 100 Continue\r\n\r\n"])) * 2
    head = interim + "\r\n".join((f"HTTP/1.1 {status} Reason", *lines, "", ""))
    surplus = draw(st.sampled_from([b"", b"", b"surplus"])) if framing != "until close" else b""
    return Answer(
        wire=head.encode() + body + surplus,
        body=body,
        payload=payload,
        status=status,
        ends_by_closing=framing == "until close",
        is_reusable=framing != "until close" and not closes and not surplus,
    )


@given(worker_answers(), st.data())
@settings(max_examples=200, deadline=None)
def test_any_cut_of_an_answer_tells_the_same_story(answer: Answer, data: st.DataObject) -> None:
    side = WorkerSide()
    connection, transport = side.open()
    sink = RecordingSink(wants_payload=True)
    connection.send(b"", sink)
    for piece in data.draw(pieces_of(answer.wire)):
        if transport.was_aborted:
            break
        connection.data_received(piece)
        if data.draw(st.booleans()):
            connection.pause()
            connection.resume()
    if answer.ends_by_closing:
        assert sink.outcome is None
        connection.connection_lost(None)
    assert sink.head is not None
    assert sink.head.status == answer.status
    assert sink.wire == answer.body
    assert sink.payload == answer.payload
    assert sink.outcome == "end"
    reused = side.pool.take_idle()
    assert (reused is connection) is answer.is_reusable
    assert (reused is None) is (not answer.is_reusable)
    assert transport.was_aborted is (not answer.is_reusable and not answer.ends_by_closing)


@given(worker_answers(), st.data(), st.booleans(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_connection_lost_anywhere_ends_the_story_once(
    answer: Answer, data: st.DataObject, is_reset: bool, is_reused: bool
) -> None:
    side = WorkerSide()
    connection, transport = side.open_idle() if is_reused else side.open()
    side.pool.take_idle()
    sink = RecordingSink()
    connection.send(b"", sink)
    num_bytes = data.draw(st.integers(0, len(answer.wire)))
    for piece in data.draw(pieces_of(answer.wire[:num_bytes])):
        if not transport.was_aborted:
            connection.data_received(piece)
    was_complete = sink.outcome == "end"
    connection.connection_lost(ConnectionResetError() if is_reset else None)
    if was_complete or (answer.ends_by_closing and sink.head is not None and not is_reset):
        assert sink.outcome == "end"
    elif is_reused and num_bytes == 0:
        assert sink.outcome is LegFailure.STALE
    else:
        assert sink.outcome is LegFailure.RESET
    assert (side.pool.num_open, side.pool.num_idle) == (0, 0)
    assert side.pool.take_idle() is None


@given(
    st.lists(
        st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 X\r\n\r\n", b"\r\n", b"\r\n\r\n",
                         b"transfer-encoding: chunked\r\n", b"content-length: 3\r\n",
                         b"3\r\nabc\r\n", b"0\r\n\r\n", b"a: b\r\n"])
        | st.binary(max_size=6),
        max_size=10,
    ),
    st.data(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_whatever_a_worker_says_it_has_one_meaning(
    fragments: list[bytes], data: st.DataObject
) -> None:
    stories = []
    wire = b"".join(fragments)
    for pieces in ([wire], data.draw(pieces_of(wire))):
        side = WorkerSide()
        connection, transport = side.open()
        sink = RecordingSink()
        connection.send(b"", sink)
        for piece in pieces:
            if not transport.was_aborted:
                connection.data_received(piece)
        stories.append(
            (
                sink.outcome,
                sink.head,
                # How much of a broken body is passed on before the break depends on the pieces.
                None if sink.outcome is LegFailure.PROTOCOL else bytes(sink.wire),
                side.pool.take_idle() is connection,
            )
        )
    assert stories[0] == stories[1]
