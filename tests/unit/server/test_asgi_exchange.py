import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from hfx_router.http1.request_reader import ParsedRequest, ReadLimits, RequestReader
from hfx_router.server.asgi import AsgiApp, AsgiExchange, Message
from structlog.testing import capture_logs

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Client:
    """Notes what the exchange does with the connection."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.kept_alive: bool | None = None
        """None until the answer is complete."""
        self.was_broken_off = False

    def write(self, data: bytes) -> None:
        assert data
        self.written += data

    def finished(self, *, keep_alive: bool) -> None:
        assert self.kept_alive is None
        self.kept_alive = keep_alive

    def break_off(self) -> None:
        self.was_broken_off = True


class Run:
    """One request through an app."""

    def __init__(self, app: AsgiApp, request: bytes = b"GET / HTTP/1.1\r\n\r\n") -> None:
        self.client = Client()
        self.answered: list[int] = []
        self.exchange = AsgiExchange(
            app, self.client, parsed(request), b"req-1", lambda _, status: self._note(status)
        )

    def _note(self, status: int) -> None:
        self.answered.append(status)

    async def until_done(self) -> bytes:
        self.exchange.start()
        assert self.exchange.task is not None
        await self.exchange.task
        return bytes(self.client.written)


def parsed(request: bytes) -> ParsedRequest:
    reader = RequestReader(ReadLimits())
    reader.feed(request)
    return reader.ready[0]


def answering(
    *bodies: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> AsgiApp:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        for body in bodies[:-1]:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": bodies[-1]})

    return app


HEAD_REQUEST = b"HEAD / HTTP/1.1\r\n\r\n"
HTTP_10 = b"GET / HTTP/1.0\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"
LENGTH_5 = ((b"Content-Length", b"5"), (b"x-a", b"1"))


@pytest.mark.parametrize(
    ("app", "request_bytes", "answer", "kept_alive"),
    [
        (
            answering(b"hel", b"lo", headers=LENGTH_5),
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: 1\r\nx-request-id: req-1\r\n\r\nhello",
            True,
        ),
        (
            answering(b"hello", headers=LENGTH_5),
            CLOSE,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: 1\r\nx-request-id: req-1\r\n"
            b"connection: close\r\n\r\nhello",
            False,
        ),
        (
            answering(b"hello", headers=LENGTH_5),
            HEAD_REQUEST,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: 1\r\nx-request-id: req-1\r\n\r\n",
            True,
        ),
        (
            answering(b"hello", b"", b"0123456789"),
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-request-id: req-1\r\n\r\n"
            b"5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n",
            True,
        ),
        (
            answering(b""),
            b"GET / HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-request-id: req-1\r\n\r\n"
            b"0\r\n\r\n",
            True,
        ),
        (
            answering(b"hello"),
            HEAD_REQUEST,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-request-id: req-1\r\n\r\n",
            True,
        ),
        (
            answering(b"hel", b"lo"),
            HTTP_10,
            b"HTTP/1.1 200 OK\r\nx-request-id: req-1\r\nconnection: close\r\n\r\nhello",
            False,
        ),
        (
            answering(b"", status=204),
            b"DELETE /a HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nx-request-id: req-1\r\n\r\n",
            True,
        ),
        (
            answering(b"", status=799),
            HTTP_10,
            b"HTTP/1.1 799 Unknown\r\nx-request-id: req-1\r\nconnection: close\r\n\r\n",
            False,
        ),
    ],
    ids=["length", "close", "head", "chunked", "empty", "head chunked", "1.0", "204", "odd status"],
)
async def test_answers(app: AsgiApp, request_bytes: bytes, answer: bytes, kept_alive: bool) -> None:
    run = Run(app, request_bytes)
    assert await run.until_done() == answer
    assert run.client.kept_alive is kept_alive
    assert not run.client.was_broken_off
    assert run.answered == [int(answer[9:12])]


async def test_the_app_sees_the_request() -> None:
    seen: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.extend((scope, await receive()))
        await answering(b"ok")(scope, receive, send)

    await Run(
        app, b"PUT /a%20b/%C3%BC?x=%31 HTTP/1.1\r\nX-A: 1\r\ncontent-length: 2\r\n\r\nhi"
    ).until_done()
    scope, message = seen
    assert scope["type"] == "http"
    assert scope["method"] == "PUT"
    assert scope["http_version"] == "1.1"
    assert scope["path"] == "/a b/ü"
    assert scope["raw_path"] == b"/a%20b/%C3%BC"
    assert scope["query_string"] == b"x=%31"
    assert scope["headers"] == [(b"x-a", b"1"), (b"content-length", b"2")]
    assert message == {"type": "http.request", "body": b"hi", "more_body": False}


async def test_a_path_that_is_no_utf8_is_no_failure() -> None:
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])
        await answering(b"ok")(scope, receive, send)

    await Run(app, b"GET /%FF HTTP/1.1\r\n\r\n").until_done()
    assert seen == ["/\N{REPLACEMENT CHARACTER}"]


async def raising(scope: Message, receive: Receive, send: Send) -> None:
    raise ValueError("broken")


async def raising_after_start(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    raise ValueError("broken")


async def silent(scope: Message, receive: Receive, send: Send) -> None:
    pass


async def sending_a_body_first(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("app", [raising, raising_after_start, silent, sending_a_body_first])
@pytest.mark.parametrize("request_bytes", [b"GET / HTTP/1.1\r\n\r\n", HEAD_REQUEST, HTTP_10])
async def test_a_failure_before_the_first_byte_is_a_500(app: AsgiApp, request_bytes: bytes) -> None:
    run = Run(app, request_bytes)
    with capture_logs() as logs:
        head, _, body = (await run.until_done()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"x-request-id: req-1" in head
    assert b"connection: close" in head
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert b"broken" not in body, "nobody outside needs to know"
    assert run.client.kept_alive is False
    assert run.answered == [500]
    assert [entry["event"] for entry in logs] == ["control_plane_failed"] * (app is not silent)


async def raising_later(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    raise ValueError("broken")


async def ending_early(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


@pytest.mark.parametrize("app", [raising_later, ending_early])
async def test_a_failure_after_it_breaks_off(app: AsgiApp) -> None:
    run = Run(app)
    with capture_logs():
        await run.until_done()
    assert run.client.was_broken_off
    assert run.client.kept_alive is None


async def test_a_failure_after_the_last_byte_harms_nobody() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answering(b"hello", headers=LENGTH_5)(scope, receive, send)
        raise ValueError("broken")

    run = Run(app)
    with capture_logs() as logs:
        assert (await run.until_done()).endswith(b"hello")
    assert run.client.kept_alive is True
    assert run.answered == [200]
    assert len(logs) == 1


async def test_bytes_after_the_last_are_an_error() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await answering(b"hello", headers=LENGTH_5)(scope, receive, send)
        await send({"type": "http.response.body", "body": b"more"})

    run = Run(app)
    with capture_logs() as logs:
        assert (await run.until_done()).endswith(b"hello")
    assert len(logs) == 1


async def test_the_app_is_slowed_to_the_client_s_pace() -> None:
    run = Run(answering(b"1", b"2", b"3"))
    run.exchange.pause()
    run.exchange.start()
    for _ in range(5):
        await asyncio.sleep(0)
    assert run.client.written.endswith(b"\r\n1\r\n1\r\n"), "only the first piece"
    run.exchange.resume()
    assert run.exchange.task is not None
    await run.exchange.task
    assert run.client.written.endswith(b"3\r\n0\r\n\r\n")


async def test_the_app_hears_that_the_client_left() -> None:
    heard: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        heard.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"y"})

    run = Run(app)
    run.exchange.start()
    await asyncio.sleep(0)
    written = bytes(run.client.written)
    assert heard == []
    run.exchange.client_gone()
    assert run.exchange.task is not None
    await run.exchange.task
    assert heard == ["http.disconnect"]
    assert run.client.written == written
    assert run.client.kept_alive is None
    assert not run.client.was_broken_off
    assert run.answered == [200]


async def test_a_client_that_leaves_while_paused_does_not_hold_the_app_up() -> None:
    run = Run(answering(b"1", b"2"))
    run.exchange.pause()
    run.exchange.start()
    await asyncio.sleep(0)
    run.exchange.client_gone()
    assert run.exchange.task is not None
    await run.exchange.task
    assert run.answered == [200]
