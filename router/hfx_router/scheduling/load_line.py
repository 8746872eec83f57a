"""One kept-alive connection to a server, for one question at a time.

It is one of the byte path's own connections: with a client library, a question that is asked of
each of a thousand servers every second would cost the event loop a fair part of its time.
"""

import asyncio
from collections.abc import Callable

from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.outbox import Outbox
from hfx_router.upstream.connection import LegFailure, UpstreamConnection
from hfx_router.upstream.pool import ConnectionPool
from hfx_router.workers.ask import Answer

KEEP_ALIVE_S = 4.0
"""How long a connection may wait for the next question: less than the 5 s after which SGLang
closes it, so that few questions meet a connection that is being closed."""

MAX_ANSWER_BYTES = 1024 * 1024
"""A kilobyte for each data-parallel rank is usual."""

OnAnswer = Callable[[Answer], None]


class LoadLine:
    """Asks one server. The sink of its own connection.

    Args:
        connect_timeout_s: how long opening a connection may take.
    """

    __slots__ = (
        "_body", "_connecting", "_connection", "_on_answer", "_pool", "_request", "_status",
    )  # fmt: skip

    def __init__(
        self,
        host: str,
        port: int,
        *,
        now_s: Callable[[], float],
        outbox: Outbox,
        connect_timeout_s: float,
    ) -> None:
        self._pool = ConnectionPool(
            host,
            port,
            now_s=now_s,
            outbox=outbox,
            connect_timeout_s=connect_timeout_s,
            idle_timeout_s=KEEP_ALIVE_S,
        )
        self._request = b""
        self._on_answer: OnAnswer | None = None
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._status = 0
        self._body = bytearray()

    def ask(self, path: str, api_key: str | None, on_answer: OnAnswer) -> None:
        """Ask, and have `on_answer` called later, once, unless `give_up` comes first.

        The question before must have been answered or given up.
        """
        key_line = "" if api_key is None else f"authorization: Bearer {api_key}\r\n"
        head = f"GET {path} HTTP/1.1\r\n{key_line}".encode()
        self._request = b"%b%b\r\n" % (head, self._pool.host_line)
        self._on_answer = on_answer
        self._pool.close_stale()
        connection = self._pool.take_idle()
        if connection is None:
            self._connecting = self._pool.connect(self, self._send)
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connecting = None
        self._connection = connection
        connection.send(self._request, self)

    def give_up(self) -> None:
        """Want no answer any more."""
        self._on_answer = None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None

    def close(self) -> None:
        """Give up, and close the connection."""
        self.give_up()
        self._pool.close()

    def _answer(self, answer: Answer) -> None:
        on_answer, self._on_answer = self._on_answer, None
        self._connection = self._connecting = None
        if on_answer is not None:
            on_answer(answer)

    # --- ResponseSink ---

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """See ResponseSink."""
        self._answer(Answer(status=head.status, body=body))

    def on_head(self, head: ResponseHead) -> PayloadSink:
        """See ResponseSink."""
        self._status = head.status
        self._body = bytearray()
        return self._take

    def _take(self, payload: bytes) -> None:
        self._body += payload
        if len(self._body) > MAX_ANSWER_BYTES and self._connection is not None:
            self._connection.abandon()
            self._answer(Answer(failure=f"the answer exceeds {MAX_ANSWER_BYTES} bytes"))

    def on_body(self, data: bytes) -> None:
        """See ResponseSink."""

    def on_end(self) -> None:
        """See ResponseSink."""
        self._answer(Answer(status=self._status, body=bytes(self._body)))

    def on_lost(self, failure: LegFailure) -> None:
        """See ResponseSink. A connection that was being closed is no fault of the server."""
        if failure is LegFailure.STALE:
            self._connection = None
            self._connecting = self._pool.connect(self, self._send)
        else:
            self._answer(Answer(failure=f"no answer ({failure})"))
