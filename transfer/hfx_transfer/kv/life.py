"""A port that stays open for exactly as long as a process exists, and how to ask for it.

A process that was stopped still has its ports: the kernel takes connections for it. Only when the
process is gone does the kernel refuse. A child that was forked without `exec` keeps the port open;
that errs on the safe side.
"""

import asyncio
import os
import socket
from enum import StrEnum


class Life(StrEnum):
    """What a look at a life port says."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """No answer, which says nothing."""


class LifePort:
    """Listens from construction to `close`, and without that for as long as the process lives."""

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        # A number closes nothing when it is forgotten, as a socket object does.
        self._kept_open: int | None = os.dup(self._socket.fileno())
        self._server: asyncio.Server | None = None

    async def serve(self) -> None:
        """Take connections off the queue, so that it never fills."""
        self._server = await asyncio.start_server(_hang_up, sock=self._socket)

    def close(self) -> None:
        """Say that this process writes to nobody any more. To be called in the serving loop."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        if self._kept_open is not None:
            os.close(self._kept_open)
            self._kept_open = None


async def look(host: str, port: int, *, timeout_s: float) -> Life:
    """Return whether the process behind a life port exists."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return Life.GONE
    except OSError:
        return Life.UNKNOWN
    writer.close()
    return Life.ALIVE


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()
