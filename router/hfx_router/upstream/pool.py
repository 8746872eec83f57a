"""Kept-alive connections to one address. Last in, first out: surplus ones grow old and go."""

import asyncio
from collections.abc import Callable

from hfx_router.outbox import Outbox
from hfx_router.upstream.connection import LegFailure, ResponseSink, UpstreamConnection


class ConnectionPool:
    """Connections to one `host:port`.

    Args:
        now_s: reads the clock.
        outbox: sends the requests.
        connect_timeout_s: how long opening may take.
        idle_timeout_s: how long a connection may lie unused; below the keep-alive time of the
            worker (5 s in SGLang), so that few requests meet a connection that is being closed.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        now_s: Callable[[], float],
        outbox: Outbox,
        connect_timeout_s: float,
        idle_timeout_s: float,
    ) -> None:
        self._host = host
        self._port = port
        self._now_s = now_s
        self.outbox = outbox
        self._connect_timeout_s = connect_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        host_text = f"[{host}]" if ":" in host else host
        self.host_line = f"host: {host_text}:{port}\r\n".encode()
        """The Host header of requests to this address, with its line end."""
        self.num_opened = 0
        self._is_retired = False

    @property
    def num_open(self) -> int:
        """Connections open, idle ones included."""
        return len(self._open)

    @property
    def num_idle(self) -> int:
        """Connections open and waiting for a request."""
        return len(self._idle)

    def take_idle(self) -> UpstreamConnection | None:
        """Return a connection that is ready for a request; None when there is none."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    def connect(
        self, sink: ResponseSink, on_connected: Callable[[UpstreamConnection], None]
    ) -> asyncio.Task[None]:
        """Open a connection and hand it to `on_connected`; a failure goes to `sink.on_lost`.

        Cancelling the returned task calls neither.
        """
        task = asyncio.get_running_loop().create_task(self._connect(sink, on_connected))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    async def _connect(
        self, sink: ResponseSink, on_connected: Callable[[UpstreamConnection], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(self)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await loop.create_connection(lambda: connection, self._host, self._port)
        except OSError:  # TimeoutError is one
            self._give_up(connection)
            sink.on_lost(LegFailure.CONNECT)
            return
        except asyncio.CancelledError:
            self._give_up(connection)
            raise
        on_connected(connection)

    def _give_up(self, connection: UpstreamConnection) -> None:
        """Forget a connection that may have been made: uvloop closes it then, and tells nobody."""
        connection.abandon()
        self._open.discard(connection)

    def opened(self, connection: UpstreamConnection) -> None:
        """A connection was made."""
        self._open.add(connection)
        self.num_opened += 1

    def give_back(self, connection: UpstreamConnection) -> None:
        """A connection finished its request and can carry another."""
        if self._is_retired:
            connection.abandon()
            return
        connection.idle_since_s = self._now_s()
        self._idle.append(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close_stale(self) -> None:
        """Close connections that have been idle for too long."""
        oldest_s = self._now_s() - self._idle_timeout_s
        while self._idle and self._idle[0].idle_since_s < oldest_s:
            self._idle.pop(0).abandon()

    def retire(self) -> None:
        """Close what is idle, and what is in use as soon as it no longer is."""
        self._is_retired = True
        while self._idle:
            self._idle.pop().abandon()

    def close(self) -> None:
        """Close every connection and give up those being opened."""
        for task in self._connecting:
            task.cancel()
        for connection in list(self._open):
            connection.abandon()
