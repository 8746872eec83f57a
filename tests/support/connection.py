"""One connection of the mock worker: reads requests one after the other and plays their scripts."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Protocol, cast

from support.script import Ending, Script
from support.wire import (
    Head,
    HeaderList,
    content_length,
    header_values,
    is_chunked,
    take_chunk,
    take_head,
)

RESET_LINGER = struct.pack("ii", 1, 0)


@dataclass(slots=True, kw_only=True)
class RecordedRequest:
    """One request as it arrived. `path` is the request target, query included."""

    method: str
    path: str
    headers: HeaderList
    connection_id: int
    at_s: float
    """When the head was complete, on the clock of the event loop."""
    raw_head: bytes
    body: bytes = b""
    """The body without its framing."""
    raw_body: bytes = b""
    """The body as framed on the wire."""
    num_sent_bytes: int = 0
    """Bytes of the answer that were handed to the transport."""
    is_answered: bool = False
    """The whole script was written."""
    closed_early: bool = False
    """The client closed or reset the connection before the script was written."""

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    def header(self, name: str) -> bytes | None:
        """Return the first value of the header, ignoring case; None when it is absent."""
        return next(iter(header_values(self.headers, name)), None)

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


class Owner(Protocol):
    """The worker, as its connections see it."""

    def opened(self, connection: "Connection") -> int:
        """Count a connection and return its identifier."""

    def received(self, request: RecordedRequest) -> None:
        """Record a whole request."""

    async def choose(self, request: RecordedRequest) -> Script:
        """Return the script that answers `request`."""

    def changed(self) -> None:
        """Look again at what tests wait for."""

    def lost(self, connection_id: int) -> None:
        """Forget a connection."""

    def finished(self, task: asyncio.Task[None]) -> None:
        """Take note of how the task of a connection ended."""


class Connection(asyncio.Protocol):
    """One accepted connection: reads requests one after the other and plays their scripts."""

    transport: asyncio.Transport

    def __init__(self, worker: Owner) -> None:
        self._worker = worker
        self._buffer = bytearray()
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._current: RecordedRequest | None = None
        self._id = 0
        self._task: asyncio.Task[None] | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self._id = self._worker.opened(self)
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._worker.finished)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._current is not None:
            self._current.closed_early = True
        if self._task is not None:
            self._task.cancel()
        self._worker.lost(self._id)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- for the worker ---

    def drop(self, *, is_reset: bool) -> None:
        """End the connection at once, unsent bytes and all; that is not the client's doing."""
        self._current = None
        if is_reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
        self.transport.abort()

    # --- the loop of one connection ---

    async def _serve(self) -> None:
        try:
            while (request := await self._read_request()) is not None:
                self._current = request
                self._worker.received(request)
                script = await self._worker.choose(request)
                await self._play(request, script)
                if script.ending is not Ending.KEEP:
                    break
        finally:
            self.transport.close()

    async def _read_request(self) -> RecordedRequest | None:
        """Return the next whole request; None when it is a preface of HTTP/2."""
        while (head := take_head(self._buffer)) is None:
            await self._more()
        method, path, version = head.start_line.decode("latin-1").split(" ", 2)
        if version == "HTTP/2.0":
            return None
        request = RecordedRequest(
            method=method,
            path=path,
            headers=head.headers,
            connection_id=self._id,
            at_s=asyncio.get_running_loop().time(),
            raw_head=head.raw,
        )
        await self._read_body(head, request)
        return request

    async def _read_body(self, head: Head, request: RecordedRequest) -> None:
        if not is_chunked(head):
            length_bytes = content_length(head) or 0
            while len(self._buffer) < length_bytes:
                await self._more()
            request.body = request.raw_body = bytes(self._buffer[:length_bytes])
            del self._buffer[:length_bytes]
            return
        data, raw = bytearray(), bytearray()
        while True:
            while (chunk := take_chunk(self._buffer)) is None:
                await self._more()
            data += chunk.data
            raw += chunk.raw
            if not chunk.data:
                request.body, request.raw_body = bytes(data), bytes(raw)
                return

    async def _more(self) -> None:
        self._wake.clear()
        await self._wake.wait()

    async def _play(self, request: RecordedRequest, script: Script) -> None:
        for step in script.steps:
            if step.delay_s:
                await asyncio.sleep(step.delay_s)
            if step.gate is not None:
                await step.gate.wait()
            await self._writable.wait()
            self.transport.write(step.data)
            request.num_sent_bytes += len(step.data)
            await asyncio.sleep(0)
        if script.ending is Ending.STALL:
            await asyncio.get_running_loop().create_future()
        request.is_answered = True
        self._current = None
        if script.ending is Ending.RESET:
            self.drop(is_reset=True)
        self._worker.changed()
