"""A recording FAKE of an SGLang worker for contract tests. It serves no model.

It keeps every byte of every request, answers as `support.inference` does unless told otherwise,
and can be told to misbehave in any way that `support.script` can spell.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from support.connection import Connection, RecordedRequest
from support.engine import EngineState
from support.inference import answer_of
from support.script import Script

__all__ = ["RecordedRequest", "RecordingWorker", "Respond"]

FIRST_PORT, LAST_PORT = 24_000, 32_700
"""Below the ephemeral range, so that no outgoing connection of another test holds the port."""

PROBE_PATHS = ("/abort_request", "/flush_cache")


Respond = Callable[[RecordedRequest], Script | Awaitable[Script | None] | None]
"""Chooses an answer; None leaves the request to the default behaviour."""


@dataclass(slots=True, kw_only=True)
class _Queued:
    script: Script
    path: str | None


@dataclass(slots=True)
class _Waiter:
    is_met: Callable[[], bool]
    future: "asyncio.Future[None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class RecordingWorker:
    """A fake SGLang server on a loopback port. Use it as an async context manager.

    The answer to a request is, first match wins: the oldest queued script for its path, the oldest
    queued script for any path (only for inference POSTs), what `respond` returns, the default.
    """

    def __init__(
        self,
        *,
        role: str = "null",
        port: int | None = None,
        respond: Respond | None = None,
        state: EngineState | None = None,
    ) -> None:
        """`role` is SGLang's disaggregation mode: null, prefill or decode. None picks a port."""
        self.state = state or EngineState(disaggregation_mode=role)
        self.respond = respond
        self.requests: list[RecordedRequest] = []
        self.num_connections = 0
        """Connections ever accepted."""
        self.host = "127.0.0.1"
        self._wanted_port = port
        self._port: int | None = None
        self._server: asyncio.Server | None = None
        self._scripts: deque[_Queued] = deque()
        self._open: dict[int, Connection] = {}
        self._waiters: list[_Waiter] = []
        self._failures: list[BaseException] = []

    # --- life ---

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        loop = asyncio.get_running_loop()
        wanted = self._port or self._wanted_port
        for port in [wanted] if wanted else _candidate_ports(id(self)):
            try:
                self._server = await loop.create_server(
                    lambda: Connection(self), self.host, port, backlog=1024
                )
            except OSError as exc:
                if wanted is None and exc.errno == errno.EADDRINUSE:
                    continue
                raise
            self._port = port
            return
        raise OSError(errno.EADDRINUSE, f"no free port in {FIRST_PORT}-{LAST_PORT}")

    async def stop(self, *, is_reset: bool = False) -> None:
        """Stop listening and drop every connection: closed, or reset as a dying process does.

        Raises:
            WireError: a client sent what is no HTTP/1.1, at any time.
            Exception: what `respond` raised, at any time.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._open.values())
        for connection in connections:
            connection.drop(is_reset=is_reset)
        await self.wait_idle()
        if self._failures:
            raise self._failures[0]

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._port is None:
            raise RuntimeError("the worker was not started")
        return self._port

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    @property
    def num_open_connections(self) -> int:
        """Connections that are open right now."""
        return len(self._open)

    # --- behaviour ---

    def queue(self, *scripts: Script, path: str | None = None) -> None:
        """Answer the next requests with these scripts, one each, in order.

        With a `path`, requests for exactly that path (query left out), probes included; without
        one, inference POSTs only, so that probes and health checks do not eat them.
        """
        self._scripts.extend(_Queued(script=script, path=path) for script in scripts)

    def pause_reading(self) -> None:
        """Take no more bytes from the connections that are open."""
        for connection in self._open.values():
            connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        for connection in self._open.values():
            connection.transport.resume_reading()

    # --- observation ---

    def requests_for(self, path: str) -> list[RecordedRequest]:
        """Return the requests for exactly `path`, query left out, in order of arrival."""
        return [request for request in self.requests if request.route == path]

    async def wait_requests(
        self, num: int = 1, *, path: str | None = None, timeout_s: float = 5.0
    ) -> list[RecordedRequest]:
        """Wait until `num` whole requests (for `path`) were received; return all of them."""

        def found() -> list[RecordedRequest]:
            return self.requests if path is None else self.requests_for(path)

        await self._wait(lambda: len(found()) >= num, timeout_s)
        return list(found())

    async def wait_disconnect(self, request: RecordedRequest, *, timeout_s: float = 5.0) -> None:
        """Wait until the connection that carried `request` is gone."""
        await self._wait(lambda: request.connection_id not in self._open, timeout_s)

    async def wait_idle(self, *, timeout_s: float = 5.0) -> None:
        """Wait until no connection is open."""
        await self._wait(lambda: not self._open, timeout_s)

    async def _wait(self, is_met: Callable[[], bool], timeout_s: float) -> None:
        if is_met():
            return
        waiter = _Waiter(is_met)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.future
        finally:
            self._waiters.remove(waiter)

    # --- for the connections ---

    def changed(self) -> None:
        """Wake those who wait for something that holds by this time."""
        for waiter in self._waiters:
            if not waiter.future.done() and waiter.is_met():
                waiter.future.set_result(None)

    def opened(self, connection: Connection) -> int:
        """Count a connection and return its identifier."""
        self.num_connections += 1
        self._open[self.num_connections] = connection
        return self.num_connections

    def received(self, request: RecordedRequest) -> None:
        """Record a whole request."""
        self.requests.append(request)
        self.changed()

    def lost(self, connection_id: int) -> None:
        """Forget a connection."""
        del self._open[connection_id]
        self.changed()

    def finished(self, task: "asyncio.Task[None]") -> None:
        """Keep the error of a connection's task for `stop`."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failures.append(error)

    async def choose(self, request: RecordedRequest) -> Script:
        """Return the script that answers `request`."""
        route = request.route
        for wanted in (route, None):
            if wanted is None and (request.method != "POST" or route in PROBE_PATHS):
                continue
            for queued in self._scripts:
                if queued.path == wanted:
                    self._scripts.remove(queued)
                    return queued.script
        if self.respond is not None:
            chosen = self.respond(request)
            script = await chosen if isinstance(chosen, Awaitable) else chosen
            if script is not None:
                return script
        return answer_of(self.state, request.method, request.path, request.body)


def _candidate_ports(seed: int) -> list[int]:
    """Return every port of the range, starting somewhere that differs between workers."""
    num_ports = LAST_PORT - FIRST_PORT
    offset = (seed // 16 * 7919) % num_ports
    return [FIRST_PORT + (offset + index) % num_ports for index in range(num_ports)]
