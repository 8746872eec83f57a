import pytest
from hfx_router.http1.request_reader import ParsedRequest, ReadLimits, RequestReader
from support.cuts import cut

from hfx_sgl.errors import MalformedHttpError, RequestError

HEAD = b"POST /generate?a=1&b=2 HTTP/1.1\r\nHost: x\r\nX-Thing:  Some Value\r\n"


def read(*pieces: bytes) -> list[ParsedRequest]:
    reader = RequestReader(ReadLimits())
    for piece in pieces:
        reader.feed(piece)
    return list(reader.ready)


def test_request_with_length() -> None:
    (request,) = read(HEAD + b"content-length: 5\r\n\r\nhello")
    assert request.method == b"POST"
    assert request.path == b"/generate"
    assert request.query == b"a=1&b=2"
    assert request.headers == [
        (b"host", b"x"),
        (b"x-thing", b"Some Value"),
        (b"content-length", b"5"),
    ]
    assert request.fields[b"x-thing"] == b"Some Value"
    assert request.body == b"hello"
    assert request.keep_alive
    assert not request.is_http_10


def test_chunked_request_loses_its_framing() -> None:
    wire = HEAD + b"transfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n"
    for request in (*read(wire), *read(*cut(wire, 1))):
        assert request.body == b"abcde"
        assert b"t" not in request.fields, "a trailer is no header"


def test_request_without_body() -> None:
    (request,) = read(b"GET / HTTP/1.1\r\n\r\n")
    assert (request.path, request.query, request.headers, request.body) == (b"/", b"", [], b"")


def test_pipelined_requests_come_out_in_order() -> None:
    wire = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(50))
    assert [request.path for request in read(wire)] == [b"/%d" % number for number in range(50)]


def test_of_repeated_headers_the_last_is_looked_up_and_all_are_kept() -> None:
    (request,) = read(b"GET / HTTP/1.1\r\nx-a: 1\r\nX-A: 2\r\n\r\n")
    assert request.headers == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert request.fields[b"x-a"] == b"2"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://router:30000/generate", b"/generate", b""),
        (b"http://router/v1/models/a%2Fb?x=1", b"/v1/models/a%2Fb", b"x=1"),
        (b"https://[::1]:8080/a/b?c=d?e", b"/a/b", b"c=d?e"),
        (b"/a?http://b/c", b"/a", b"http://b/c"),
        (b"//a/b", b"//a/b", b""),
    ],
)
def test_target_forms(target: bytes, path: bytes, query: bytes) -> None:
    (request,) = read(b"GET %b HTTP/1.1\r\n\r\n" % target)
    assert (request.path, request.query) == (path, query)


@pytest.mark.parametrize("target", [b"http://router", b"http://router?x=1", b"http://:/"])
def test_target_without_a_path_is_refused(target: bytes) -> None:
    with pytest.raises(MalformedHttpError, match="target is not a path"):
        read(b"GET %b HTTP/1.1\r\n\r\n" % target)


@pytest.mark.parametrize("target", [b"router:443", b"/", b"http://a/b"])
def test_connect_is_refused(target: bytes) -> None:
    with pytest.raises(MalformedHttpError):
        read(b"CONNECT %b HTTP/1.1\r\nhost: a\r\n\r\n" % target)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "keep-alive", True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "foo, close", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", False),
    ],
)
def test_keep_alive(version: str, connection: str | None, keep_alive: bool) -> None:
    line = f"connection: {connection}\r\n" if connection else ""
    (request,) = read(f"GET / HTTP/{version}\r\n{line}\r\n".encode())
    assert request.keep_alive is keep_alive
    assert request.is_http_10 is (version == "1.0")


def test_nothing_is_read_after_a_request_that_closes() -> None:
    reader = RequestReader(ReadLimits())
    with pytest.raises(MalformedHttpError, match="close"):
        reader.feed(b"GET /1 HTTP/1.1\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
    assert [request.path for request in reader.ready] == [b"/1"]


class TestUpgrade:
    """The offer is declined by answering in HTTP/1.1."""

    OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"

    @pytest.mark.parametrize("size_bytes", [1, 7, 10_000])
    def test_request_keeps_its_body_and_the_next_one_is_read(self, size_bytes: int) -> None:
        wire = HEAD + self.OFFER + b"content-length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\n\r\n"
        first, second = read(*cut(wire, size_bytes))
        assert (first.path, first.query, first.body) == (b"/generate", b"a=1&b=2", b"hello")
        assert first.fields[b"x-thing"] == b"Some Value"
        assert b"upgrade" not in first.fields
        assert first.keep_alive
        assert second.path == b"/next"

    def test_chunked_body(self) -> None:
        chunked = b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        (request,) = read(HEAD + self.OFFER + chunked)
        assert request.body == b"abc"

    def test_without_body(self) -> None:
        wire = b"GET http://h/a?b HTTP/1.1\r\n" + self.OFFER + b"\r\n"
        assert [(request.path, request.query) for request in read(wire * 3)] == [(b"/a", b"b")] * 3

    def test_version_and_close_survive(self) -> None:
        (old,) = read(b"GET / HTTP/1.0\r\n" + self.OFFER + b"\r\n")
        assert old.is_http_10
        (last,) = read(b"GET / HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n")
        assert not last.keep_alive

    def test_many_in_one_piece(self) -> None:
        wire = b"GET / HTTP/1.1\r\n" + self.OFFER + b"\r\n"
        assert len(read(wire * 3000)) == 3000


class TestExpect:
    HEAD = b"POST / HTTP/1.1\r\ncontent-length: 3\r\nExpect: 100-Continue\r\n\r\n"

    def test_waits_after_the_head_only(self) -> None:
        reader = RequestReader(ReadLimits())
        reader.feed(self.HEAD[:-1])
        assert not reader.wants_continue
        reader.feed(self.HEAD[-1:])
        assert reader.wants_continue
        reader.feed(b"abc")
        assert not reader.wants_continue
        assert reader.ready[0].body == b"abc"

    def test_no_wait_where_the_body_came_along(self) -> None:
        reader = RequestReader(ReadLimits())
        reader.feed(self.HEAD + b"abc")
        assert not reader.wants_continue

    def test_http_10_knows_no_interim_answer(self) -> None:
        reader = RequestReader(ReadLimits())
        reader.feed(self.HEAD.replace(b"1.1", b"1.0"))
        assert reader.is_mid_body
        assert not reader.wants_continue

    def test_other_expectations_are_ignored(self) -> None:
        reader = RequestReader(ReadLimits())
        reader.feed(self.HEAD.replace(b"100-Continue", b"something"))
        assert not reader.wants_continue


def test_says_what_it_is_in_the_middle_of() -> None:
    reader = RequestReader(ReadLimits())
    states = []
    for piece in (b"\r\n", b"POST / HTTP/1.1\r\n", b"content-length: 2\r\n\r\n", b"a", b"bG"):
        reader.feed(piece)
        states.append((reader.is_mid_head, reader.is_mid_body))
    assert states == [(False, False), (True, False), (False, True), (False, True), (True, False)]


@pytest.mark.parametrize(
    "wire",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\nhost: a\n\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nname : v\r\n\r\n",
        b"GET / HTTP/1.1\r\na: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\na: nul\0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\na",
        b"POST / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\na",
        b"POST / HTTP/1.1\r\ncontent-length: \r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\na\n0\n\n",
    ],
)
def test_ambiguous_or_broken_bytes_are_refused(wire: bytes) -> None:
    for size_bytes in (1, len(wire)):
        with pytest.raises(MalformedHttpError) as caught:
            read(*cut(wire, size_bytes))
        assert isinstance(caught.value, RequestError)
        assert caught.value.http_status == 400
        assert caught.value.closes_connection
