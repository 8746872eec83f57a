"""One client connection. Inference requests go to the byte path, all others to the ASGI app."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from hfx_router.errors import render_error
from hfx_router.http1.request_reader import RequestReader
from hfx_sgl.errors import RequestError, RequestReadTimeoutError, UnavailableError

if TYPE_CHECKING:
    from hfx_router.server.front import Front

_WRITE_HIGH_WATER_BYTES = 262_144
"""Bytes waiting for a slow client before its worker is no longer read; some thousand chunks."""

_MAX_PIPELINED = 16
"""Complete requests that may wait on one connection before it is no longer read."""

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""A linger time of zero, for SO_LINGER."""

_LINGER_S = 2.0
"""How long a refused client may go on sending. What it sends is thrown away; closing at once would
answer it with a reset, which many clients report in place of the error that they were sent."""

_GOODBYE = b"connection: close\r\n"


class Handler(Protocol):
    """Whoever answers the request that is being served."""

    def start(self) -> None:
        """Begin."""
        ...

    def pause(self) -> None:
        """Write no more until `resume`: the client does not keep up."""
        ...

    def resume(self) -> None:
        """Write again."""
        ...

    def client_gone(self) -> None:
        """The client left; nothing may be written any more."""
        ...


class ClientConnection(asyncio.Protocol):
    """Serves requests of one connection strictly in order."""

    __slots__ = (
        "_drop_at_s", "_error", "_front", "_handler", "_head_began_at_s", "_is_paused",
        "_is_reading_paused", "_paused_at_s", "_quiet_since_s", "_reader", "_transport",
    )  # fmt: skip

    def __init__(self, front: "Front") -> None:
        self._front = front
        self._reader = RequestReader(front.limits)
        self._transport: asyncio.Transport | None = None
        self._handler: Handler | None = None
        self._error: RequestError | None = None
        self._drop_at_s: float | None = None
        self._is_paused = False
        self._is_reading_paused = False
        self._paused_at_s = 0.0
        self._head_began_at_s: float | None = None
        self._quiet_since_s = front.now_s()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served, waits or is being read."""
        return self._handler is None and not self._reader.ready and not self._is_reading

    @property
    def _is_reading(self) -> bool:
        return self._reader.is_mid_head or self._reader.is_mid_body

    @property
    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER_BYTES)
        self._front.opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        reader = self._reader
        self._quiet_since_s = self._front.now_s()
        if self._error is not None:
            return
        num_ready = len(reader.ready)
        try:
            reader.feed(data)
        except RequestError as error:
            self._error = error
        if not reader.is_mid_head:
            self._head_began_at_s = None
        elif self._head_began_at_s is None or len(reader.ready) > num_ready:
            self._head_began_at_s = self._quiet_since_s
        if self._handler is None and not self._is_paused:
            self._serve_next()
        elif self._error is not None or len(reader.ready) > _MAX_PIPELINED:
            self._pause_reading()

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._transport = None
        self._front.closed(self)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.client_gone()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_paused = True
        self._paused_at_s = self._front.now_s()
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._is_paused = False
        if self._handler is not None:
            self._handler.resume()
        else:
            self._serve_if_free()

    # --- requests ---

    def _serve_next(self) -> None:
        ready = self._reader.ready
        if ready:
            request = ready.popleft()
            front = self._front
            if front.is_draining:
                self._refuse(
                    UnavailableError(
                        "the router is shutting down", code="shutting_down", retry_after_s=1.0
                    )
                )
                return
            handler = self._handler = front.handler(self, request)
            handler.start()
        elif self._error is not None:
            self._refuse(self._error)
        elif self._reader.wants_continue:
            self._reader.wants_continue = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse(self, error: RequestError) -> None:
        """Answer with an error outside of any exchange, and close once the client has read it."""
        self._front.refused(error)
        self.write(render_error(error, _GOODBYE))
        if self._front.is_draining or self._transport is None:
            self._close()
            return
        self._error = error
        self._drop_at_s = self._front.now_s() + _LINGER_S
        self._front.outbox.flush()
        self._transport.write_eof()
        if self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading_paused or self._transport is None:
            return
        if self._error is None and len(self._reader.ready) <= _MAX_PIPELINED:
            self._is_reading_paused = False
            self._transport.resume_reading()

    # --- what handlers call ---

    def write(self, data: bytes) -> None:
        """Send bytes of an answer."""
        if self._transport is not None:
            self._front.outbox.write(self._transport, data)

    def write_through(self) -> Callable[[bytes], None]:
        """Return what sends bytes by the shortest way, for as long as the connection is open."""
        if self._transport is None:
            return self.write
        self._front.outbox.flush()  # what was written before must go before
        return self._transport.write

    def finished(self, *, keep_alive: bool) -> None:
        """The answer is complete; go on to the next request or close."""
        self._handler = None
        self._quiet_since_s = self._front.now_s()
        if not keep_alive or self._is_closing:
            self._close()
            return
        if self._front.is_draining and not self._reader.ready:
            self._close()
            return
        self._resume_reading()
        if self._reader.ready or self._error is not None or self._reader.wants_continue:
            asyncio.get_running_loop().call_soon(self._serve_if_free)

    def _serve_if_free(self) -> None:
        """Go on unless something else did; a client that does not read gets no further answer."""
        is_over = self._is_closing or self._drop_at_s is not None
        if self._handler is None and not self._is_paused and not is_over:
            self._serve_next()

    def break_off(self) -> None:
        """Reset the connection: an answer that ends with a close can look complete."""
        self._handler = None
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.drop()

    def _close(self) -> None:
        if self._transport is not None:
            self._front.outbox.flush()
            self._transport.close()

    # --- what the front calls ---

    def sweep(self, now_s: float) -> None:
        """Close or refuse if the client has been too slow in any way."""
        timeouts = self._front.timeouts
        quiet_s = now_s - self._quiet_since_s
        if self._drop_at_s is not None:
            if now_s > self._drop_at_s:
                self.drop()
        elif self._is_paused or self._is_closing:  # bytes wait for the client
            waits_s = now_s - self._paused_at_s if self._is_paused else quiet_s
            if waits_s > timeouts.write_s:
                self.drop()
        elif self._handler is not None:
            return
        elif self._head_began_at_s is not None:
            if now_s - self._head_began_at_s > timeouts.header_s:
                self._refuse(
                    RequestReadTimeoutError(
                        f"the headers did not arrive within {timeouts.header_s:g} s"
                        " (--client-header-timeout-secs)"
                    )
                )
        elif self._reader.is_mid_body:
            if quiet_s > timeouts.body_s:
                self._refuse(
                    RequestReadTimeoutError(
                        f"no byte of the body arrived for {timeouts.body_s:g} s"
                        " (--client-body-timeout-secs)"
                    )
                )
        elif quiet_s > timeouts.idle_s:
            self._close()

    def drop(self) -> None:
        """Close at once, with whatever is being served; its handler learns that the client left."""
        if self._transport is not None:
            self._transport.abort()

    def shutdown(self) -> None:
        """Close unless a request is being served."""
        if self.is_idle or self._drop_at_s is not None:
            self._close()
