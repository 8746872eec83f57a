import pytest
from hfx_router.http1.response_head import (
    ResponseFormatError,
    parse_response_head,
    render_response_head,
)

HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Mon, 1 Jan 2035 00:00:00 GMT\r\n"
    b"Server:uvicorn\r\n"
    b"Content-Type: application/json\r\n"
    b"X-Twice: 1\r\n"
    b"x-twice:  2 \r\n"
    b"content-length: 12"
)


def test_parses_what_routing_needs() -> None:
    head = parse_response_head(HEAD)
    assert head.status == 200
    assert head.content_length == 12
    assert not head.is_chunked
    assert not head.is_event_stream
    assert head.keeps_alive


def test_what_is_not_dropped_goes_through_byte_for_byte() -> None:
    assert render_response_head(parse_response_head(HEAD), b"") == HEAD + b"\r\n\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"proxy-connection: close",
        b"TE: trailers", b"Trailer: x", b"upgrade: h2c", b"X-Request-Id: theirs",
    ],
)  # fmt: skip
def test_lines_of_one_connection_are_cut_and_ours_added(line: bytes) -> None:
    status_line, _, fields = HEAD.partition(b"\r\n")
    for text in (HEAD + b"\r\n" + line, status_line + b"\r\n" + line + b"\r\n" + fields):
        rendered = render_response_head(parse_response_head(text), b"a: 1\r\nb: 2\r\n")
        assert rendered == HEAD + b"\r\na: 1\r\nb: 2\r\n\r\n"


def test_names_that_only_begin_alike_stay() -> None:
    text = HEAD + b"\r\nTE-x: 1\r\nx-connection: 2\r\nupgrades: 3\r\nx-request-ids: 4"
    assert render_response_head(parse_response_head(text), b"") == text + b"\r\n\r\n"


def test_reframed_answers_lose_the_worker_s_framing() -> None:
    head = parse_response_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx: 1")
    assert render_response_head(head, b"", reframed=True) == b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n"
    head = parse_response_head(b"HTTP/1.1 200 OK\r\nx: 1\r\nContent-Length: 5")
    assert render_response_head(head, b"", reframed=True) == b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\n"


def test_a_head_of_nothing_but_a_status_line() -> None:
    head = parse_response_head(b"HTTP/1.0 404 Not Found At All")
    assert (head.status, head.keeps_alive) == (404, False)
    rendered = render_response_head(head, b"")
    assert rendered == b"HTTP/1.1 404 Not Found At All\r\n\r\n", "the version is ours"


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200 \xe4\xff", b"HTTP/1.0 599 x y"]
)
def test_reasons_may_be_anything(line: bytes) -> None:
    head = parse_response_head(line)
    assert render_response_head(head, b"")[8:] == line[8:] + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "connection", "keeps_alive"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "keep-alive", True),
        ("1.0", None, False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "close", False),
    ],
)
def test_keep_alive(version: str, connection: str | None, keeps_alive: bool) -> None:
    line = f"\r\nConnection: {connection}" if connection else ""
    head = parse_response_head(f"HTTP/{version} 200 OK{line}".encode())
    assert head.keeps_alive is keeps_alive


@pytest.mark.parametrize(
    ("content_type", "is_event_stream"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"application/json", False),
        (b"text/plain", False),
    ],
)
def test_event_streams(content_type: bytes, is_event_stream: bool) -> None:
    head = parse_response_head(b"HTTP/1.1 200 OK\r\ncontent-type: " + content_type)
    assert head.is_event_stream is is_event_stream


def test_chunked() -> None:
    head = parse_response_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding:  Chunked ")
    assert head.is_chunked
    assert head.content_length is None


def test_equal_lengths_are_no_contradiction() -> None:
    head = parse_response_head(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5")
    assert head.content_length == 5


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 ",
        b"HTTP/1.1 20",
        b"HTTP/1.1 2x0 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 \xb2\xb3\xb9 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK",
        b"ICY 200 OK",
        b" HTTP/1.1 200 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\na: 1\nb: 2",
        b"HTTP/1.1 200 OK\r\na: 1\0",
        b"HTTP/1.1 200 OK\r\n: no name",
        b"HTTP/1.1 200 OK\r\na: 1\r\n folded: 2",
        b"HTTP/1.1 200 OK\r\nname : 1",
        b"HTTP/1.1 200 OK\r\na b: 1",
        b"HTTP/1.1 200 OK\r\n\r\na: 1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 5",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5",
        b"HTTP/1.1 200 OK\r\ncontent-length: +5",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5.0",
        b"HTTP/1.1 200 OK\r\ncontent-length:",
        b"HTTP/1.1 200 OK\r\ncontent-length: \xb2",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
    ],
)
def test_refuses_what_is_broken_or_contradictory(head: bytes) -> None:
    with pytest.raises(ResponseFormatError):
        parse_response_head(head)
