from dataclasses import dataclass

from hfx_router.http1.request_reader import ParsedRequest, ReadLimits, RequestReader
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuts import pieces_of

from hfx_sgl.errors import HeadersTooLargeError, RequestError

TOKEN = st.text("abcdefXYZ-_09", min_size=1, max_size=6)
VALUE = st.lists(st.text("aZ09;,=\"':/ \xe9\xff", min_size=1, max_size=8), max_size=3).map(
    lambda parts: " ".join(parts).strip()
)
SPECIAL = {"connection", "content-length", "expect", "te", "transfer-encoding", "upgrade"}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A request as bytes, and what has to come out."""

    wire: bytes
    expected: tuple[object, ...]


def outcome(request: ParsedRequest) -> tuple[object, ...]:
    return (
        request.method,
        request.path,
        request.query,
        [field for field in request.headers if field[0].decode() not in SPECIAL],
        request.body,
        request.keep_alive,
        request.is_http_10,
    )


@st.composite
def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    wire = bytearray()
    for piece in draw(pieces_of(body)):
        extension = draw(st.sampled_from(["", "", ";a", ';name="v"']))
        wire += f"{len(piece):x}{extension}\r\n".encode() + piece + b"\r\n"
    trailer = draw(st.sampled_from([b"", b"", b"x-trailer: 1\r\n"]))
    return bytes(wire + b"0\r\n" + trailer + b"\r\n")


@st.composite
def requests(draw: st.DrawFn, *, is_last: bool) -> Sent:
    method = draw(st.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]))
    path = "/" + draw(st.text("abc/%20.:@-_~", max_size=12))
    query = draw(st.none() | st.text("ab=&?/%31", max_size=8))
    origin = "http://router:1" if draw(st.booleans()) and not path.startswith("//") else ""
    headers = draw(st.lists(st.tuples(TOKEN, VALUE), max_size=4))
    headers = [(name, value) for name, value in headers if name.lower() not in SPECIAL]
    body = draw(st.binary(max_size=30))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    closing = draw(st.sampled_from(["", "", "close", "1.0"])) if is_last else ""
    lines = [f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}" for name, value in headers]
    if framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("transfer-encoding: chunked")
    if draw(st.integers(0, 4)) == 0:
        lines += ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"]
    if closing == "close":
        lines.append("connection: close")
    version = "1.0" if closing == "1.0" else "1.1"
    target = origin + path + ("" if query is None else "?" + query)
    head = "\r\n".join((f"{method} {target} HTTP/{version}", *lines, "", ""))
    payload = {"none": b"", "length": body}.get(framing)
    return Sent(
        wire=head.encode("latin-1") + (draw(chunked(body)) if payload is None else payload),
        expected=(
            method.encode(),
            path.encode(),
            (query or "").encode(),
            [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            b"" if framing == "none" else body,
            not closing,
            closing == "1.0",
        ),
    )


@st.composite
def sequences(draw: st.DrawFn) -> list[Sent]:
    first = draw(st.lists(requests(is_last=False), max_size=3))
    return [*first, draw(requests(is_last=True))]


@given(sequences(), st.data())
@settings(max_examples=200, deadline=None)
def test_requests_do_not_depend_on_how_they_were_cut(
    sequence: list[Sent], data: st.DataObject
) -> None:
    reader = RequestReader(ReadLimits())
    for piece in data.draw(pieces_of(b"".join(sent.wire for sent in sequence))):
        reader.feed(piece)
    assert [outcome(request) for request in reader.ready] == [sent.expected for sent in sequence]
    assert not reader.is_mid_head
    assert not reader.is_mid_body
    assert not reader.wants_continue


FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"PRI * ",
        b"OPTIONS * HTTP/1.1\r\n", b"GET http:/// HTTP/1.0\r\n", b"HTTP/2.0\r\n", b"\r\n", b"\n",
        b"content-length: 5\r\n", b"content-length: 99999999999999999999\r\n", b"Upgrade: h2c\r\n",
        b"transfer-encoding: chunked\r\n", b"transfer-encoding: x\r\n", b"connection: upgrade\r\n",
        b"expect: 100-continue\r\n", b"connection: close\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
        b"ffffffffffffffffff\r\n", b"x: " + b"y" * 300, b"hello", b":", b"\0", b"\xff",
    ]
)  # fmt: skip


@given(st.lists(FRAGMENTS | st.binary(max_size=8), max_size=12), st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_taken_or_refused(fragments: list[bytes], data: st.DataObject) -> None:
    reader = RequestReader(ReadLimits(max_header_bytes=200, max_body_bytes=50))
    errors = []
    for piece in data.draw(pieces_of(b"".join(fragments))):
        try:
            reader.feed(piece)
        except RequestError as error:
            errors.append(error)
            break
    assert all(error.closes_connection for error in errors)
    for request in reader.ready:
        assert len(request.body) <= 50
        assert request.path


@given(st.integers(0, 600), st.integers(0, 3), st.data())
@settings(max_examples=150, deadline=None)
def test_the_header_limit_does_not_depend_on_cuts(
    num_bytes: int, num_before: int, data: st.DataObject
) -> None:
    """Except within the length of a request line without its target, which has no exact meaning."""
    head = b"GET / HTTP/1.1\r\nname: " + b"v" * num_bytes + b"\r\n\r\n"
    measured_bytes = len(b"/name: \r\n") + num_bytes
    reader = RequestReader(ReadLimits(max_header_bytes=300))
    is_refused = False
    try:
        for piece in data.draw(pieces_of(b"GET / HTTP/1.1\r\n\r\n" * num_before + head)):
            reader.feed(piece)
    except HeadersTooLargeError:
        is_refused = True
    if measured_bytes > 300:
        assert is_refused
    elif measured_bytes <= 300 - len(b"GET  HTTP/1.1\r\n\r\n"):
        assert not is_refused
        assert len(reader.ready) == num_before + 1
