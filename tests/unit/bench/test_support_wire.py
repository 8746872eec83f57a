"""The byte parsing of the fakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.wire import (
    WireError,
    content_length,
    encode_chunk,
    encode_head,
    is_chunked,
    take_chunk,
    take_head,
)


def test_a_head_keeps_case_order_and_duplicates() -> None:
    headers = [(b"X-B", b"1"), (b"x-a", b"2"), (b"X-b", b"3")]
    buffer = bytearray(encode_head(b"GET / HTTP/1.1", headers) + b"rest")
    head = take_head(buffer)
    assert head is not None
    assert head.start_line == b"GET / HTTP/1.1"
    assert head.headers == headers
    assert head.values("x-b") == [b"1", b"3"]
    assert head.raw == b"GET / HTTP/1.1\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\n\r\n"
    assert buffer == b"rest"


def test_an_incomplete_head_is_left_in_the_buffer() -> None:
    buffer = bytearray(b"GET / HTTP/1.1\r\nHost: a\r\n")
    assert take_head(buffer) is None
    assert buffer == b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "raw",
    [b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\x00\x01 this is not HTTP\r\nx\r\n\r\n"],
)
def test_a_header_without_a_colon_is_an_error(raw: bytes) -> None:
    with pytest.raises(WireError, match="without a colon"):
        take_head(bytearray(raw))


@pytest.mark.parametrize("lengths", [[b"1", b"2"], [b"-1"], [b"1x"], [b""]])
def test_a_wrong_content_length_is_an_error(lengths: list[bytes]) -> None:
    head = take_head(bytearray(encode_head(b"", [(b"Content-Length", n) for n in lengths])))
    assert head is not None
    with pytest.raises(WireError, match="content-length"):
        content_length(head)


def test_framing_headers_are_found_in_any_case() -> None:
    head = take_head(
        bytearray(
            encode_head(b"", [(b"CONTENT-LENGTH", b"12"), (b"Transfer-Encoding", b"Chunked")])
        )
    )
    assert head is not None
    assert content_length(head) == 12
    assert is_chunked(head)


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(min_value=1, max_value=7))
def test_chunks_survive_any_split(chunks: list[bytes], piece_bytes: int) -> None:
    wire = b"".join(map(encode_chunk, [*chunks, b""]))
    buffer, taken = bytearray(), []
    for start in range(0, len(wire), piece_bytes):
        buffer += wire[start : start + piece_bytes]
        while (chunk := take_chunk(buffer)) is not None:
            taken.append(chunk)
    assert [chunk.data for chunk in taken] == [*chunks, b""]
    assert b"".join(chunk.raw for chunk in taken) == wire
    assert not buffer


def test_extensions_and_trailers_belong_to_their_chunk() -> None:
    buffer = bytearray(b"2;a=b\r\nhi\r\n0\r\nX-T: 1\r\n\r\n" + b"next")
    first, last = take_chunk(buffer), take_chunk(buffer)
    assert first is not None
    assert last is not None
    assert (first.data, first.raw) == (b"hi", b"2;a=b\r\nhi\r\n")
    assert (last.data, last.raw) == (b"", b"0\r\nX-T: 1\r\n\r\n")
    assert buffer == b"next"


@pytest.mark.parametrize("raw", [b"zz\r\nhi\r\n", b"2\r\nhi!!"])
def test_a_broken_chunk_is_an_error(raw: bytes) -> None:
    with pytest.raises(WireError, match="chunk"):
        take_chunk(bytearray(raw))
