"""Opens a port for a front, and empties it again."""

import asyncio
import socket

from hfx_router.server.connection import ClientConnection
from hfx_router.server.front import Front
from hfx_sgl.errors import ConfigError

_BACKLOG = 4096
"""Connections that may wait to be accepted: a thousand clients that begin at once must not meet
SYN retries of a second and more."""


class Listener:
    """One listening port."""

    def __init__(self, front: Front, host: str, port: int) -> None:
        self._front = front
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be bound.
        """
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: ClientConnection(self._front),
                self._host,
                self._port,
                backlog=_BACKLOG,
                reuse_address=True,
            )
        except (OSError, socket.gaierror) as exc:
            raise ConfigError(f"port: cannot listen on {self._host}:{self._port}: {exc}") from exc

    async def drain(self, grace_s: float) -> bool:
        """Refuse new connections, wait for requests under way; return whether all ended in time."""
        assert self._server is not None
        self._server.close()
        self._front.drain()
        if not self._front.connections:
            return True
        try:
            async with asyncio.timeout(grace_s):
                await self._front.emptied.wait()
        except TimeoutError:
            self._front.close()
            return False
        return True
