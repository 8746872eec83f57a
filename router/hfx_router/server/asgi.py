"""Runs one request through an ASGI app: the way of the control plane."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

import structlog

from hfx_router.errors import render_error, status_line
from hfx_router.http1.request_reader import ParsedRequest
from hfx_sgl.errors import RequestError

log = structlog.get_logger(__name__)

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class AsgiClient(Protocol):
    """The connection that waits for the answer."""

    def write(self, data: bytes) -> None:
        """Send bytes of the answer."""
        ...

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        ...

    def break_off(self) -> None:
        """Close at once, since the answer cannot be completed."""
        ...


class AsgiExchange:
    """One request and its answer. The request is complete when it arrives here."""

    def __init__(
        self,
        app: AsgiApp,
        client: AsgiClient,
        request: ParsedRequest,
        request_id: bytes,
        on_answered: Callable[[ParsedRequest, int], None],
    ) -> None:
        self._app = app
        self._client: AsgiClient | None = client
        self._request = request
        self._request_id = request_id
        self._on_answered = on_answered
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._body_was_received = False
        self._head: bytes | None = None
        self._status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._is_chunked = False
        self._was_written = False
        self._is_complete = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run the app in a task of its own."""
        self.task = asyncio.get_running_loop().create_task(self._run())

    def pause(self) -> None:
        """The client does not keep up."""
        self._writable.clear()

    def resume(self) -> None:
        """The client caught up."""
        self._writable.set()

    def client_gone(self) -> None:
        """The client left; the app may finish, nobody listens."""
        self._client = None
        self._gone.set()
        self._writable.set()

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except Exception:  # the app is a boundary: its failure is one client's 500
            log.exception("control_plane_failed", path=self._request.path.decode("latin-1"))
        if not self._was_written:
            self._status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        self._on_answered(self._request, self._status)
        client, self._client = self._client, None
        if client is None:
            return
        if self._is_complete:
            client.finished(keep_alive=self._request.keep_alive)
        elif self._was_written:
            client.break_off()
        else:
            self._request.keep_alive = False  # a HEAD request has no place for the body
            client.write(render_error(RequestError("internal error"), self._own_lines()))
            client.finished(keep_alive=False)

    def _scope(self) -> Message:
        request = self._request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if request.is_http_10 else "1.1",
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
            "raw_path": request.path,
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": None,
            "server": None,
            "state": {},
        }

    async def _receive(self) -> Message:
        if not self._body_was_received:
            self._body_was_received = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._head = self._render_head(self._status, message.get("headers", []))
            return
        if self._head is None or self._is_complete:
            raise RuntimeError("the app sent a body out of turn")
        body: bytes = message.get("body", b"")
        self._is_complete = not message.get("more_body", False)
        if self._request.method == b"HEAD":
            body = b""
        elif self._is_chunked:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if self._is_complete:
                body += b"0\r\n\r\n"
        if not self._was_written:
            self._was_written = True
            body = self._head + body
        if self._client is not None and body:
            self._client.write(body)
        await self._writable.wait()

    def _render_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [status_line(status)]
        has_length = status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        for name, value in headers:
            has_length = has_length or name.lower() == b"content-length"
            lines.append(b"%b: %b\r\n" % (name, value))
        if not has_length:
            if self._request.is_http_10:
                self._request.keep_alive = False
            else:
                self._is_chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(self._own_lines())
        return b"".join(lines) + b"\r\n"

    def _own_lines(self) -> bytes:
        lines = b"x-request-id: %b\r\n" % self._request_id
        if not self._request.keep_alive:
            lines += b"connection: close\r\n"
        return lines
