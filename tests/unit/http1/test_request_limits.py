from collections.abc import Iterable

import pytest
from hfx_router.http1.request_reader import ReadLimits, RequestReader
from support.cuts import cut

from hfx_sgl.errors import HeadersTooLargeError, MalformedHttpError, PayloadTooLargeError

MAX_HEADER_BYTES = 4096
MAX_BODY_BYTES = 1000
CHUNKED = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


def reader_with_limits() -> RequestReader:
    return RequestReader(
        ReadLimits(max_header_bytes=MAX_HEADER_BYTES, max_body_bytes=MAX_BODY_BYTES)
    )


def feed(reader: RequestReader, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)


def num_bytes_taken(start: bytes, piece: bytes, limit_bytes: int) -> int:
    """Feed `start`, then `piece` again and again; return how many bytes were fed until refusal."""
    reader = reader_with_limits()
    reader.feed(start)
    num_bytes = 0
    while num_bytes <= limit_bytes:
        num_bytes += len(piece)
        try:
            reader.feed(piece)
        except (HeadersTooLargeError, MalformedHttpError):
            return num_bytes
    raise AssertionError(f"{num_bytes} bytes were taken")


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", b"y"),
        (b"GET /", b"y" * 3000),
        (b"GET / HTTP/1.1\r\n", b"x: %b\r\n" % (b"y" * 95)),
        (b"GET / HTTP/1.1\r\n", b"x: %b\r\n" % (b"y" * 95) * 30),
        (b"GET / HTTP/1.1\r\na: ", b"y"),
        (b"GET / HTTP/1.1\r\na: ", b"y" * 3000),
        (b"GET / HTTP/1.1\r\na", b"y"),
        (b"GET / HTTP/1.1\r\na", b"y" * 3000),
    ],
)
def test_a_head_that_never_ends_is_refused(start: bytes, piece: bytes) -> None:
    taken = num_bytes_taken(start, piece, 3 * MAX_HEADER_BYTES)
    assert MAX_HEADER_BYTES < taken <= MAX_HEADER_BYTES + len(piece)


@pytest.mark.parametrize("size_bytes", [1, 100, 1000, 4000, 5000, 100_000])
@pytest.mark.parametrize("first_bytes", [0, 10, 2000, 4500, 8000])
def test_too_large_a_head_is_refused_however_it_is_cut(first_bytes: int, size_bytes: int) -> None:
    head = b"GET / HTTP/1.1\r\n" + b"x: %b\r\n" % (b"y" * 100) * 80 + b"\r\n"
    reader = reader_with_limits()
    pieces = [head[:first_bytes], *cut(head[first_bytes:], size_bytes)]
    with pytest.raises(HeadersTooLargeError, match="4096 bytes"):
        feed(reader, filter(None, pieces))
    assert not reader.ready


def test_the_limit_is_for_each_request() -> None:
    reader = reader_with_limits()
    request = b"GET / HTTP/1.1\r\nx: %b\r\n\r\n" % (b"y" * 3000)
    feed(reader, cut(request * 10, 1700))
    assert len(reader.ready) == 10
    reader.feed(request * 10)
    assert len(reader.ready) == 20


def test_a_large_body_leaves_the_next_head_its_room() -> None:
    reader = RequestReader(ReadLimits(max_header_bytes=500, max_body_bytes=10_000))
    request = b"POST / HTTP/1.1\r\ncontent-length: 5000\r\n\r\n" + b"b" * 5000
    feed(reader, cut(request * 3, 5030))
    assert len(reader.ready) == 3


def test_body_by_length() -> None:
    reader = reader_with_limits()
    reader.feed(b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n" + b"b" * 1000)
    assert len(reader.ready[0].body) == MAX_BODY_BYTES
    with pytest.raises(PayloadTooLargeError, match="1000 bytes"):
        reader.feed(b"POST / HTTP/1.1\r\ncontent-length: 1001\r\n\r\n")


def test_too_large_a_body_is_refused_before_it_is_asked_for() -> None:
    reader = reader_with_limits()
    with pytest.raises(PayloadTooLargeError):
        reader.feed(b"POST / HTTP/1.1\r\ncontent-length: 1001\r\nexpect: 100-continue\r\n\r\n")
    assert not reader.wants_continue


@pytest.mark.parametrize("size_bytes", [1, 50, 10_000])
def test_body_by_chunks(size_bytes: int) -> None:
    chunks = b"64\r\n%b\r\n" % (b"b" * 100) * 10
    reader = reader_with_limits()
    feed(reader, cut(CHUNKED + chunks + b"0\r\n\r\n", size_bytes))
    assert len(reader.ready[0].body) == MAX_BODY_BYTES
    with pytest.raises(PayloadTooLargeError):
        feed(reader, cut(CHUNKED + chunks + b"1\r\nb\r\n", size_bytes))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (CHUNKED + b"1;", b"x" * 100),
        (CHUNKED + b"1;x=", b"y"),
        (CHUNKED + b"0\r\n", b"t: %b\r\n" % (b"v" * 50)),
        (CHUNKED + b"0\r\nt: ", b"v" * 100),
        (CHUNKED, b"1;%b\r\nb\r\n" % (b"x" * 100)),
    ],
    ids=["extension", "extension by bytes", "trailers", "trailer", "extension of each chunk"],
)
def test_chunk_overhead_is_bounded(start: bytes, piece: bytes) -> None:
    assert num_bytes_taken(start, piece, 5 * MAX_HEADER_BYTES) < 2 * MAX_HEADER_BYTES


@pytest.mark.parametrize("size_bytes", [1, 6, 1000])
def test_chunks_of_one_byte_are_no_overhead(size_bytes: int) -> None:
    reader = RequestReader(ReadLimits(max_header_bytes=200))
    feed(reader, cut(CHUNKED + b"1\r\nb\r\n" * 3000 + b"0\r\n\r\n", size_bytes))
    assert reader.ready[0].body == b"b" * 3000
