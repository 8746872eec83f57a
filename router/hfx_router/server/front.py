"""What all client connections of one listener share, and where their requests go."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from hfx_router.http1.request_reader import ParsedRequest, ReadLimits
from hfx_router.metrics.paths import fold_method, fold_path
from hfx_router.metrics.recorder import Recorder
from hfx_router.outbox import Outbox
from hfx_router.server.asgi import AsgiApp, AsgiExchange
from hfx_router.server.connection import ClientConnection, Handler
from hfx_sgl.errors import RequestError

ExchangeMaker = Callable[[ClientConnection, ParsedRequest], Handler | None]
"""Makes the handler of a byte-path request; None for a request that is the ASGI app's."""

RequestIdMaker = Callable[[dict[bytes, bytes], str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """How long a client may take."""

    header_s: float = 30.0
    """From the first byte of a request to the end of its headers."""
    body_s: float = 120.0
    """Between two pieces of a body."""
    idle_s: float = 75.0
    """Between two requests; nginx's default, above that of common client pools."""
    write_s: float = 300.0
    """Without reading anything of an answer that waits."""


class Front:
    """One listener's connections."""

    def __init__(
        self,
        *,
        app: AsgiApp,
        make_exchange: ExchangeMaker,
        make_request_id: RequestIdMaker,
        recorder: Recorder,
        now_s: Callable[[], float],
        outbox: Outbox,
        limits: ReadLimits,
        timeouts: ClientTimeouts,
    ) -> None:
        self._app = app
        self._make_exchange = make_exchange
        self._make_request_id = make_request_id
        self._recorder = recorder
        self.now_s = now_s
        self.outbox = outbox
        self.limits = limits
        self.timeouts = timeouts
        self.connections: set[ClientConnection] = set()
        self.is_draining = False
        self.emptied = asyncio.Event()
        """Set whenever the last connection has gone."""

    def opened(self, connection: ClientConnection) -> None:
        """A client connected."""
        self.connections.add(connection)
        self.emptied.clear()
        self._recorder.num_connections += 1

    def closed(self, connection: ClientConnection) -> None:
        """A client's connection is gone."""
        self.connections.discard(connection)
        self._recorder.num_connections -= 1
        if not self.connections:
            self.emptied.set()

    def handler(self, connection: ClientConnection, request: ParsedRequest) -> Handler:
        """Return who answers the request."""
        exchange = self._make_exchange(connection, request)
        if exchange is not None:
            return exchange
        request_id = self._make_request_id(request.fields, "req-")
        started_s = self.now_s()
        return AsgiExchange(
            self._app,
            connection,
            request,
            request_id,
            lambda request, status: self._answered(request, status, self.now_s() - started_s),
        )

    def _answered(self, request: ParsedRequest, status: int, duration_s: float) -> None:
        self._recorder.controlled(
            fold_method(request.method.decode("latin-1")),
            fold_path(request.path.decode("latin-1")),
            status,
            "",
            duration_s,
        )

    def refused(self, error: RequestError) -> None:
        """Count an answer to something that never became a request."""
        self._recorder.answered("other", False, error.http_status, error.code, 0.0)

    def sweep(self) -> None:
        """Look for clients that take too long. Called a few times a second."""
        now_s = self.now_s()
        for connection in list(self.connections):
            connection.sweep(now_s)

    def drain(self) -> None:
        """Serve no further requests; close what is idle."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.shutdown()

    def close(self) -> None:
        """Drop every connection."""
        for connection in list(self.connections):
            connection.drop()
