import pytest
from hfx_router.http1.body_framing import (
    BodyFraming,
    ChunkedBody,
    LengthBody,
    UntilCloseBody,
    framing_of,
)
from hfx_router.http1.response_head import ResponseFormatError, parse_response_head
from support.cuts import cut


def feed(body: BodyFraming, pieces: list[bytes]) -> None:
    for piece in pieces:
        body.feed(piece)


def framing(status: int, *lines: str) -> BodyFraming:
    head = "\r\n".join((f"HTTP/1.1 {status} X", *lines))
    return framing_of(parse_response_head(head.encode()), None)


def test_length() -> None:
    payload: list[bytes] = []
    body = LengthBody(5, payload.append)
    assert body.feed(b"ab") == 2
    assert not body.is_complete
    assert not body.end(), "cut off"
    assert body.feed(b"cdeHTTP") == 3
    assert body.is_complete
    assert body.end()
    assert payload == [b"ab", b"cde"]
    assert body.feed(b"more") == 0
    assert payload == [b"ab", b"cde"]


def test_length_of_nothing_is_complete_at_once() -> None:
    payload: list[bytes] = []
    body = LengthBody(0, payload.append)
    assert body.is_complete
    assert body.feed(b"x") == 0
    assert payload == []


def test_until_close() -> None:
    payload: list[bytes] = []
    body = UntilCloseBody(payload.append)
    assert body.feed(b"ab") == 2
    assert not body.is_complete
    assert body.end()
    assert payload == [b"ab"]


def test_only_chunks_leave_room_for_more() -> None:
    for body in (LengthBody(5, None), LengthBody(0, None), UntilCloseBody(None)):
        assert not body.is_aligned
    assert ChunkedBody(None).is_aligned


@pytest.mark.parametrize(
    ("wire", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b'3;name=value;q="x"\r\nabc\r\n0;last\r\n\r\n', b"abc"),
        (b"3 \r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n0\r\nTrailer: 1\r\nAnother: 2\r\n\r\n", b"abc"),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    ],
)
def test_chunked(wire: bytes, payload: bytes) -> None:
    for size_bytes in range(1, len(wire) + 1):
        taken = bytearray()
        body = ChunkedBody(taken.extend)
        pieces = cut(wire, size_bytes)
        assert [body.feed(piece) for piece in pieces] == [len(piece) for piece in pieces]
        assert body.is_complete
        assert body.end()
        assert not body.is_aligned
        assert taken == payload


def test_chunked_ends_where_it_ends() -> None:
    body = ChunkedBody(None)
    assert body.feed(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n") == 11
    assert body.feed(b"1\r\na\r\n") == 0


def test_chunked_that_is_cut_off() -> None:
    wire = b"3\r\nabc\r\n0\r\nt: 1\r\n\r\n"
    for num_bytes in range(len(wire)):
        body = ChunkedBody(None)
        body.feed(wire[:num_bytes])
        assert not body.is_complete
        assert not body.end()


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1_0\r\n",
        b";x\r\n",
        b"11111111111111111\r\n",
        b"1\na\n0\n\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabcx\r\n",
        b"3\r\nabc\r\r\n",
        b"0\r\n\n",
        b"0\r\nt: 1\n\r\n",
        b"1;" + b"x" * 5000 + b"\r\n",
        b"0\r\nt: " + b"x" * 5000 + b"\r\n",
    ],
)
def test_broken_chunks_are_refused_however_they_are_cut(wire: bytes) -> None:
    for size_bytes in (1, 2, 3, 1000, len(wire)):
        body = ChunkedBody(None)
        with pytest.raises(ResponseFormatError):
            feed(body, cut(wire, size_bytes))


def test_a_line_that_never_ends_is_refused() -> None:
    body = ChunkedBody(None)
    with pytest.raises(ResponseFormatError, match="too long"):
        feed(body, [b"0" * 100] * 100)


@pytest.mark.parametrize(
    ("chosen", "kind", "is_complete"),
    [
        (framing(200, "transfer-encoding: chunked"), ChunkedBody, False),
        (framing(200, "content-length: 5"), LengthBody, False),
        (framing(200, "content-length: 0"), LengthBody, True),
        (framing(200), UntilCloseBody, False),
        (framing(503), UntilCloseBody, False),
        (framing(204), LengthBody, True),
        (framing(304, "content-length: 5"), LengthBody, True),
        (framing(304, "transfer-encoding: chunked"), LengthBody, True),
    ],
)
def test_the_head_chooses(chosen: BodyFraming, kind: type, is_complete: bool) -> None:
    assert type(chosen) is kind
    assert chosen.is_complete is is_complete
