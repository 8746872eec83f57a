"""One HTTP/1.1 connection of the load test's client.

Instants are taken in the loop's callback for received bytes, before anything is parsed, and in the
call that hands a request to the socket: no task has to be woken up in between.
"""

import asyncio
from typing import Protocol, cast

import httptools

from hfx_sgl.clock import Clock


class AnswerSink(Protocol):
    """Whoever sent a request."""

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Take status and headers (names in lower case)."""
        ...

    def on_body(self, payload: bytes, now_s: float) -> None:
        """Take a piece of the body."""
        ...

    def on_end(self, reason: str | None) -> None:
        """Take the end, the last call: None when the answer is whole, else what broke it."""
        ...


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time. While it is being opened, a request waits for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._sink: AnswerSink | None = None
        self._unsent: bytes | None = None
        self._received_at_s = 0.0
        self._headers: dict[bytes, bytes] = {}
        self._ends_with_connection = False
        self._is_whole = False
        self.is_usable = True
        """Whether another request can be sent when the present one has ended."""
        self.idle_since_s = 0.0

    def send(self, request: bytes, sink: AnswerSink) -> None:
        """Hand a request to the socket, or keep it until the connection is open."""
        self._sink = sink
        self._parser = httptools.HttpResponseParser(self)
        self._headers = {}
        self._ends_with_connection = self._is_whole = False
        if self._transport is None:
            self._unsent = request
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Give the connection up; the sink hears nothing more."""
        self._sink = None
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    def fail(self, reason: str) -> None:
        """Say that the connection could not be opened."""
        self.is_usable = False
        self._end(reason)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request that waited."""
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        if not self.is_usable:
            self._transport.abort()
        elif self._unsent is not None:
            self._transport.write(self._unsent)
            self._unsent = None

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived."""
        self._received_at_s = self._clock.now_s()
        if self._parser is None or self._sink is None:
            self.close()  # bytes that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # an error of ours, not of the answer
        except httptools.HttpParserError as exc:
            self._break(f"malformed answer: {exc}")
        if self._is_whole:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so to whoever waits; for a body without framing it is the end."""
        self.is_usable = False
        if exc is None and self._ends_with_connection:
            self._end(None)
        else:
            self._end(f"connection lost: {exc}" if exc else "connection closed before the end")

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or a trailer."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Pass the head on; interim answers are passed over."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        self._ends_with_connection = not (
            b"content-length" in self._headers or b"transfer-encoding" in self._headers
        )
        self.is_usable = self._parser.should_keep_alive()
        if self._sink is not None:
            self._sink.on_head(status, self._headers)

    def on_body(self, payload: bytes) -> None:
        """Pass a piece of the body on."""
        if self._sink is not None:
            self._sink.on_body(payload, self._received_at_s)

    def on_message_complete(self) -> None:
        """Note the end; it is passed on once the parser has returned."""
        assert self._parser is not None
        self._is_whole = self._parser.get_status_code() >= 200

    def _break(self, reason: str) -> None:
        sink = self._sink
        self.close()
        self._sink = sink
        self._end(reason)

    def _end(self, reason: str | None) -> None:
        # The parser holds this object: cutting the circle spares the garbage collector the work.
        self._parser = None
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_end(reason)
