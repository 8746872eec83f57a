from collections.abc import Callable
from itertools import accumulate

from hfx_router.http1.body_framing import BodyFraming, ChunkedBody, LengthBody, UntilCloseBody
from hfx_router.http1.response_head import (
    ResponseFormatError,
    parse_response_head,
    render_response_head,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuts import cut, pieces_of

HEX = st.sampled_from(["{:x}", "{:X}", "{:04x}"])
EXTENSION = st.sampled_from(["", "", ";a", ";a=b;c", " "])
CHUNK = st.tuples(st.binary(min_size=1, max_size=40), HEX, EXTENSION).map(
    lambda chunk: (chunk[1].format(len(chunk[0])) + chunk[2] + "\r\n").encode() + chunk[0] + b"\r\n"
)
LAST = st.sampled_from([b"0\r\n\r\n", b"000\r\n\r\n", b"0;x\r\nt: 1\r\nu: 2\r\n\r\n"])


def payload_of(chunk: bytes) -> bytes:
    return chunk.partition(b"\r\n")[2][:-2]


@given(st.lists(CHUNK, max_size=5), LAST, st.binary(max_size=10), st.data())
@settings(max_examples=150, deadline=None)
def test_chunked_is_the_same_for_any_cut(
    chunks: list[bytes], last: bytes, surplus: bytes, data: st.DataObject
) -> None:
    wire = b"".join(chunks) + last
    payload = bytearray()
    body = ChunkedBody(payload.extend)
    num_bytes = 0
    for piece in data.draw(pieces_of(wire + surplus)):
        assert not body.is_complete or num_bytes == len(wire)
        num_taken = body.feed(piece)
        assert num_taken == min(len(piece), len(wire) - num_bytes)
        num_bytes += num_taken
    assert num_bytes == len(wire)
    assert body.is_complete
    assert body.end()
    assert payload == b"".join(map(payload_of, chunks))


@given(st.lists(CHUNK, max_size=4), LAST)
@settings(max_examples=80, deadline=None)
def test_alignment_is_exact(chunks: list[bytes], last: bytes) -> None:
    """More can be framed in before the first chunk and after each, and nowhere else."""
    boundaries = {0, *accumulate(len(chunk) for chunk in chunks)}
    body = ChunkedBody(None)
    for at, byte in enumerate(cut(b"".join(chunks) + last, 1)):
        assert body.is_aligned is (at in boundaries)
        assert not body.end()
        body.feed(byte)
    assert not body.is_aligned
    assert body.end()


@given(st.binary(max_size=60), st.integers(0, 60), st.data())
@settings(max_examples=80, deadline=None)
def test_length_is_the_same_for_any_cut(
    wire: bytes, length_bytes: int, data: st.DataObject
) -> None:
    payload = bytearray()
    body = LengthBody(length_bytes, payload.extend)
    num_bytes = sum(body.feed(piece) for piece in data.draw(pieces_of(wire)))
    assert num_bytes == min(length_bytes, len(wire))
    assert payload == wire[:length_bytes]
    assert body.is_complete is body.end() is (len(wire) >= length_bytes)


MAKERS: list[Callable[[], BodyFraming]] = [
    lambda: ChunkedBody(None),
    lambda: LengthBody(20, None),
    lambda: UntilCloseBody(None),
]
BROKEN = st.sampled_from([b"5\r\n", b"hello", b"\r\n", b"\r", b"\n", b"0", b";", b"x", b" "])


@given(st.sampled_from(MAKERS), st.lists(BROKEN | st.binary(max_size=6), max_size=10), st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_walked_or_refused(
    make: Callable[[], BodyFraming], fragments: list[bytes], data: st.DataObject
) -> None:
    """And whether they are refused does not depend on how they were cut either."""
    wire = b"".join(fragments)
    outcomes: list[object] = []
    for pieces in ([wire], data.draw(pieces_of(wire))):
        body, num_bytes = make(), 0
        try:
            for piece in pieces:
                num_taken = body.feed(piece)
                assert 0 <= num_taken <= len(piece)
                assert num_taken == len(piece) or body.is_complete
                num_bytes += num_taken
            outcomes.append((num_bytes, body.is_complete, body.is_aligned, body.end()))
        except ResponseFormatError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


NAME = st.text("abcXYZ-_09", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in {"connection", "content-length", "transfer-encoding"}
)
VALUE = st.binary(max_size=12).filter(lambda value: not set(value) & set(b"\r\n\0"))


ONE_CONNECTION = {"keep-alive", "te", "trailer", "upgrade", "x-request-id"}


@given(
    st.integers(100, 999),
    VALUE,
    st.lists(st.tuples(NAME | st.sampled_from(sorted(ONE_CONNECTION)), VALUE), max_size=6),
)
@settings(max_examples=200, deadline=None)
def test_heads_survive(status: int, reason: bytes, headers: list[tuple[str, bytes]]) -> None:
    status_line = b"HTTP/1.1 %d %b" % (status, reason)
    lines = [name.encode() + b":" + value for name, value in headers]
    head = parse_response_head(b"\r\n".join([status_line, *lines]))
    assert head.status == status
    kept = [
        line
        for (name, _), line in zip(headers, lines, strict=True)
        if name.lower() not in ONE_CONNECTION
    ]
    rendered = render_response_head(head, b"x-hfx: 1\r\n")
    assert rendered == b"\r\n".join([status_line, *kept, b"x-hfx: 1", b"", b""])
    assert parse_response_head(rendered[:-4]).status == status


HEAD_FRAGMENTS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.0 404", b"\r\n", b"content-length:", b" 12", b"a: b", b":",
     b"transfer-encoding: chunked", b"connection: close", b"\xb2", b"9" * 5000]
)  # fmt: skip


@given(st.lists(HEAD_FRAGMENTS | st.binary(max_size=6), max_size=10).map(b"".join))
@settings(max_examples=300, deadline=None)
def test_any_head_is_taken_or_refused(wire: bytes) -> None:
    try:
        head = parse_response_head(wire)
    except ResponseFormatError:
        return
    rendered = render_response_head(head, b"")
    if b"connection" not in wire:
        assert rendered[8:] == wire[8:] + b"\r\n\r\n"
    assert head.content_length is None or not head.is_chunked
