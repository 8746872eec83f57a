"""One request from the moment that it is written out to the end of its answer."""

import asyncio
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.loadtest.answer import StreamedAnswer
from hfx_sgl.loadtest.connection import ClientConnection
from hfx_sgl.loadtest.outcome import Observation, record_of
from hfx_sgl.loadtest.pool import ConnectionPool
from hfx_sgl.loadtest.request_bytes import request_bytes
from hfx_sgl.loadtest.settings import LoadSettings
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.workload.planned import PlannedRequest

_KEPT_ERROR_BYTES = 2048


class Exchange:
    """Owns one request. Made ahead of its time, sent at its time, ends with one record.

    Args:
        start_s: the instant on `clock` at which the run starts.
        on_end: called once, when the request has ended in whatever way.
    """

    def __init__(
        self,
        planned: PlannedRequest,
        *,
        settings: LoadSettings,
        pool: ConnectionPool,
        clock: Clock,
        start_s: float,
        on_end: Callable[["Exchange"], None],
    ) -> None:
        self.planned = planned
        self.answer = StreamedAnswer()
        self._settings = settings
        self._pool = pool
        self._clock = clock
        self._start_s = start_s
        self._on_end = on_end
        self._request = request_bytes(planned, settings)
        self._connection: ClientConnection = pool.take()
        self._sent_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._http_status: int | None = None
        self._headers: dict[bytes, bytes] = {}
        self._error_body = b""
        self._is_stream = False
        self._broken: str | None = None
        self._given_up: str | None = None

    @property
    def send_error_s(self) -> float:
        """Return how far from its planned time it was sent."""
        return abs(self._sent_at_s - self.planned.at_s)

    def send(self) -> None:
        """Hand the request to the socket.

        A connection that is still being opened does not make the request late: a server that is
        slow to accept is part of what is measured.
        """
        if not self._connection.is_usable:
            self._connection = self._pool.take()
        request, self._request = self._request, b""
        # A timer may fire a fraction of a millisecond early; a run begins at 0 all the same.
        self._sent_at_s = max(0.0, self._clock.now_s() - self._start_s)
        self._connection.send(request, self)
        self._timer = asyncio.get_running_loop().call_later(
            self._settings.request_timeout_s, self.give_up, "no end within the request timeout"
        )

    def give_up(self, reason: str) -> None:
        """Stop waiting for the answer."""
        self._given_up = reason
        self._connection.close()
        self._finish()

    def record(self) -> RequestRecord:
        """Return what became of it, once it has ended."""
        return record_of(
            self.planned,
            Observation(
                scheduled_at_s=self.planned.at_s,
                sent_at_s=self._sent_at_s,
                http_status=self._http_status,
                headers=self._headers,
                answer=self.answer,
                error_body=self._error_body,
                broken=self._broken,
                given_up=self._given_up,
            ),
            self._settings,
        )

    # What the connection calls.

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Note how the answer begins."""
        self._http_status = status
        self._headers = headers
        kind = headers.get(b"content-type", b"")
        self._is_stream = status == 200 and kind.startswith(b"text/event-stream")

    def on_body(self, payload: bytes, now_s: float) -> None:
        """Take a piece of the answer."""
        if self._is_stream:
            self.answer.feed(payload, now_s - self._start_s)
        elif len(self._error_body) < _KEPT_ERROR_BYTES:
            self._error_body += payload

    def on_end(self, reason: str | None) -> None:
        """Take the end of the answer, or of the connection."""
        self._broken = reason
        self._pool.give_back(self._connection)
        self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.answer.close()
        self._on_end(self)
