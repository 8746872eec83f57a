"""Keeps connections between requests."""

import asyncio
import ssl
from collections import deque

from hfx_sgl.clock import Clock
from hfx_sgl.loadtest.connection import ClientConnection
from hfx_sgl.loadtest.settings import Target

MAX_IDLE_S = 2.0
"""Servers close connections that idle (uvicorn after 5 s); a request must not meet that."""


class ConnectionPool:
    """Hands out connections to one server; must be used inside a running loop."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._tls = ssl.create_default_context() if target.is_tls else None
        self._idle: deque[ClientConnection] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    def take(self) -> ClientConnection:
        """Return a connection without a request: an idle one, or one that is being opened."""
        self._drop_old()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
        connection = ClientConnection(self._clock)
        task = asyncio.ensure_future(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return connection

    def give_back(self, connection: ClientConnection) -> None:
        """Keep a connection whose answer has ended, if it can be used again."""
        if not connection.is_usable:
            connection.close()
            return
        connection.idle_since_s = self._clock.now_s()
        self._idle.append(connection)

    async def close(self) -> None:
        """Close the idle connections and stop opening others."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        opening = list(self._opening)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    def _drop_old(self) -> None:
        oldest_s = self._clock.now_s() - MAX_IDLE_S
        while self._idle and self._idle[0].idle_since_s < oldest_s:
            self._idle.popleft().close()

    async def _open(self, connection: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: connection, self._target.host, self._target.port, ssl=self._tls
            )
        except OSError as exc:
            connection.fail(f"cannot connect: {exc.strerror or exc}")
