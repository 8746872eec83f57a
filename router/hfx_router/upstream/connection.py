"""One HTTP/1.1 connection to a worker, carrying one request at a time."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, cast

from hfx_router.http1.body_framing import BodyFraming, PayloadSink, framing_of
from hfx_router.http1.response_head import ResponseFormatError, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from hfx_router.upstream.pool import ConnectionPool

MAX_HEAD_BYTES = 65_536
"""Longest head taken from a worker; the figure of http.client and aiohttp is of the same size."""


class LegFailure(StrEnum):
    """How a leg can fail without an answer; the values are metric labels."""

    CONNECT = "connect"
    STALE = "stale"
    """A kept-alive connection was closed by the worker before it took the request."""
    RESET = "reset"
    PROTOCOL = "protocol"
    TIMEOUT = "timeout"


class ResponseSink(Protocol):
    """Receives one answer. The calls come in the order in which they stand here."""

    def on_head(self, head: ResponseHead) -> PayloadSink | None:
        """The final head has arrived; return who wants the payload without its framing, if any."""
        ...

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """A short answer has arrived in one piece: this call in place of all the others."""
        ...

    def on_body(self, data: bytes) -> None:
        """Bytes of the body, framing included, as they came."""
        ...

    def on_end(self) -> None:
        """The answer is complete."""
        ...

    def on_lost(self, failure: LegFailure) -> None:
        """The answer will never be complete. Ends the sequence at any point."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """Reads answers for whichever sink holds the connection; goes back to its pool after each."""

    __slots__ = (
        "_framing", "_head", "_head_buffer", "_is_paused", "_pool", "_saw_bytes", "_sink",
        "_transport", "forward", "idle_since_s", "is_open", "num_requests",
    )  # fmt: skip

    def __init__(self, pool: "ConnectionPool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        self._framing: BodyFraming | None = None
        self._head: ResponseHead | None = None
        self._head_buffer = b""
        self._saw_bytes = False
        self._is_paused = False
        self.is_open = False
        self.forward: Callable[[bytes], None] | None = None
        """Takes the rest of the body in place of `sink.on_body`, once the sink has set it."""
        self.num_requests = 0
        self.idle_since_s = 0.0

    def send(self, request: bytes, sink: ResponseSink) -> None:
        """Send a complete request; `sink` receives the answer."""
        assert self._transport is not None
        self._sink = sink
        self._framing = None
        self._head_buffer = b""
        self._saw_bytes = False
        self.forward = None
        self.num_requests += 1
        self._pool.outbox.write(self._transport, request)

    @property
    def can_append(self) -> bool:
        """Whether the answer so far ends where a chunk of our own could follow."""
        return self._framing is not None and self._framing.is_aligned

    def pause(self) -> None:
        """Stop reading until `resume`, so that the worker feels the client's pace."""
        if self._transport is not None and self.is_open and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and self.is_open and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def abandon(self) -> None:
        """Close at once and tell nobody; this is how SGLang learns that an answer is not wanted."""
        self._sink = None
        self.forward = None
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        sink = self._sink
        if sink is None:  # a worker that talks out of turn
            self._close()
            return
        self._saw_bytes = True
        try:
            if self._framing is None:
                self._read_head(data, sink)
            else:
                self._read_body(data, sink, self._framing)
        except ResponseFormatError:
            self._framing = None  # it may have got further than the bytes that were passed on
            self._fail(LegFailure.PROTOCOL)

    def _read_head(self, data: bytes, sink: ResponseSink) -> None:
        if self._head_buffer:
            data = self._head_buffer + data
            self._head_buffer = b""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > MAX_HEAD_BYTES:
                if len(data) >= MAX_HEAD_BYTES + 4:  # its end would be among these
                    raise ResponseFormatError("head too large")
                self._head_buffer = data
                return
            head = parse_response_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise ResponseFormatError("switching protocols was not asked for")
        if head.content_length == len(data) and head.is_plain:
            self._release(reuse=head.keeps_alive)
            sink.on_whole(head, data)
            return
        self._head = head
        on_payload = sink.on_head(head)
        if self._sink is sink:
            self._framing = framing = framing_of(head, on_payload)
            self._read_body(data, sink, framing)

    def _read_body(self, data: bytes, sink: ResponseSink, framing: BodyFraming) -> None:
        has_surplus = False
        if data:
            num_bytes = framing.feed(data)
            if num_bytes < len(data):
                has_surplus = True
                data = data[:num_bytes]
            if self.forward is not None:
                self.forward(data)
            else:
                sink.on_body(data)
                if self._sink is not sink:
                    return
        if framing.is_complete:
            assert self._head is not None
            self._release(reuse=self._head.keeps_alive and not has_surplus)
            sink.on_end()

    def _release(self, *, reuse: bool) -> None:
        """The answer is complete: go back to the pool, or close."""
        self._sink = None
        self._framing = None
        self.forward = None
        if reuse and self.is_open:
            if self._is_paused:
                self.resume()
            self._pool.give_back(self)
        else:
            self._close()

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.is_open = False
        self._pool.closed(self)
        sink = self._sink
        if sink is None:
            return
        if exc is None and self._framing is not None and self._framing.end():
            self._sink = None
            sink.on_end()
        elif self.num_requests > 1 and not self._saw_bytes:
            self._fail(LegFailure.STALE)
        else:
            self._fail(LegFailure.RESET)

    def _fail(self, failure: LegFailure) -> None:
        sink, self._sink = self._sink, None
        self._close()
        if sink is not None:
            sink.on_lost(failure)

    def _close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()
