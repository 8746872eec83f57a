"""A test client that sends exact bytes and keeps those of the answer, framing included."""

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from support.wire import (
    Head,
    HeaderList,
    content_length,
    encode_head,
    header_values,
    is_chunked,
    take_chunk,
    take_head,
)

READ_BYTES = 65_536
RESET_LINGER = struct.pack("ii", 1, 0)
Framing = Literal["none", "length", "chunked", "close"]


class ClosedError(ConnectionError):
    """The peer closed or reset the connection before a whole answer head had come."""


@dataclass(slots=True, kw_only=True)
class RawResponse:
    """One answer; `read_head` returns it with an empty body that later reads fill."""

    status: int
    reason: bytes
    version: bytes
    headers: HeaderList
    framing: Framing
    interim: list[Head]
    """The 1xx heads that came before."""
    raw: bytearray
    """Every byte of the answer, interim heads included."""
    body: bytearray = field(default_factory=bytearray)
    chunks: list[bytes] = field(default_factory=list)
    """Data of the chunks as framed; for other framings, the body as read."""
    chunk_at_s: list[float] = field(default_factory=list)
    """When each chunk was complete, on the clock of the event loop."""
    is_complete: bool = False
    """The framing said that the body is over (framing `close`: the peer closed)."""
    left_bytes: int = 0

    def header(self, name: str) -> bytes | None:
        """Return the first value of the header, ignoring case; None when it is absent."""
        return next(iter(header_values(self.headers, name)), None)


class RawClient:
    """One connection to a server. Use it as an async context manager; every wait has a limit."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float = 10.0,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        """A small `receive_buffer_bytes` makes a client whose slowness is felt early."""
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._receive_buffer_bytes = receive_buffer_bytes
        self._buffer = bytearray()
        self._sock: socket.socket | None = None

    @classmethod
    def to(cls, url: str, *, timeout_s: float = 10.0) -> Self:
        """Return a client for the server at `url`."""
        parts = urlsplit(url)
        return cls(parts.hostname or "127.0.0.1", parts.port or 80, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        if self._receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """The port of this side."""
        port = self._connected().getsockname()[1]
        assert isinstance(port, int)
        return port

    # --- writing ---

    async def send(
        self, data: bytes, *, piece_bytes: int | None = None, delay_s: float = 0.0
    ) -> None:
        """Send exactly `data`: at once, or in pieces with a pause after each."""
        loop = asyncio.get_running_loop()
        size_bytes = piece_bytes or max(len(data), 1)
        async with asyncio.timeout(self._timeout_s):
            for start in range(0, len(data), size_bytes):
                await loop.sock_sendall(self._connected(), data[start : start + size_bytes])
                if piece_bytes is not None:
                    await asyncio.sleep(delay_s)

    def shut_writing(self) -> None:
        """Half-close: say that nothing more will be sent."""
        self._connected().shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; unread bytes make the kernel send a reset, as it does for any client."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def reset(self) -> None:
        """Close with a TCP reset."""
        self._connected().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
        self.close()

    # --- reading ---

    async def read_response(self, *, method: str = "POST") -> RawResponse:
        """Read one whole answer; `method` because answers to HEAD have no body."""
        response = await self.read_head(method=method)
        await self.read_rest(response)
        return response

    async def read_head(self, *, method: str = "POST") -> RawResponse:
        """Read up to the end of the final answer's head.

        Raises:
            ClosedError: the connection ended before; its message holds what had come.
        """
        interim: list[Head] = []
        raw = bytearray()
        while True:
            while (head := take_head(self._buffer)) is None:
                if not await self._fill():
                    raise ClosedError(f"closed after {bytes(raw + self._buffer)!r}")
            raw += head.raw
            version, status, *reason = head.start_line.split(b" ", 2)
            if int(status) >= 200:
                break
            interim.append(head)
        response = RawResponse(
            status=int(status),
            reason=reason[0] if reason else b"",
            version=version,
            headers=head.headers,
            framing=_framing_of(head, int(status), method),
            interim=interim,
            raw=raw,
        )
        response.left_bytes = content_length(head) or 0
        if response.framing == "none" or (response.framing == "length" and not response.left_bytes):
            response.is_complete = True
        return response

    async def read_interim(self) -> bytes:
        """Read one head, which may be that of an interim answer, and return its bytes."""
        while (head := take_head(self._buffer)) is None:
            if not await self._fill():
                raise ClosedError(f"closed after {bytes(self._buffer)!r}")
        return head.raw

    async def next_chunk(self, response: RawResponse) -> bytes | None:
        """Read one chunk, or for other framings whatever comes; None at the end or on close."""
        if response.is_complete:
            return None
        data = await (
            self._next_framed(response)
            if response.framing == "chunked"
            else self._next_plain(response)
        )
        if data is not None:
            response.body += data
            response.chunks.append(data)
            response.chunk_at_s.append(asyncio.get_running_loop().time())
        return data

    async def read_rest(self, response: RawResponse) -> None:
        """Read the body to its end; a close before that leaves `is_complete` False."""
        while await self.next_chunk(response) is not None:
            pass

    async def read_until_close(self) -> bytes:
        """Return every byte until the peer closes or resets."""
        while await self._fill():
            pass
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def is_closed(self, *, within_s: float = 1.0) -> bool:
        """Say whether the peer closes or resets within that time without sending anything more."""
        if self._buffer:
            return False
        try:
            async with asyncio.timeout(within_s):
                return not await self._fill()
        except TimeoutError:
            return False

    async def _next_framed(self, response: RawResponse) -> bytes | None:
        while (chunk := take_chunk(self._buffer)) is None:
            if not await self._fill():
                response.raw += self._buffer
                self._buffer.clear()
                return None
        response.raw += chunk.raw
        if chunk.data:
            return chunk.data
        response.is_complete = True
        return None

    async def _next_plain(self, response: RawResponse) -> bytes | None:
        if not self._buffer and not await self._fill():
            response.is_complete = response.framing == "close"
            return None
        size_bytes = len(self._buffer)
        if response.framing == "length":
            size_bytes = min(size_bytes, response.left_bytes)
            response.left_bytes -= size_bytes
            response.is_complete = response.left_bytes == 0
        data = bytes(self._buffer[:size_bytes])
        del self._buffer[:size_bytes]
        response.raw += data
        return data

    async def _fill(self) -> bool:
        """Read some bytes into the buffer; False when the peer closed or reset."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await loop.sock_recv(self._connected(), READ_BYTES)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def _connected(self) -> socket.socket:
        if self._sock is None:
            raise RuntimeError("the client is not connected")
        return self._sock


def request_bytes(
    method: str,
    path: str,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes | None = None,
) -> bytes:
    """Return a request with `host`, the given headers and, with a body, its content-length."""
    lines = [(b"host", b"test"), *(headers or [])]
    if body is not None:
        lines.append((b"content-length", b"%d" % len(body)))
    return encode_head(f"{method} {path} HTTP/1.1".encode(), lines) + (body or b"")


async def fetch(
    url: str,
    method: str,
    path: str,
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    body: bytes | None = None,
    timeout_s: float = 10.0,
) -> RawResponse:
    """Send one request on a connection of its own and return the whole answer."""
    async with RawClient.to(url, timeout_s=timeout_s) as client:
        await client.send(request_bytes(method, path, headers=headers, body=body))
        return await client.read_response(method=method)


def sse_events(body: bytes | bytearray) -> list[bytes]:
    """Return the payloads of the `data:` lines of an event stream, in order."""
    blocks = bytes(body).split(b"\n\n")
    return [block[len(b"data: ") :] for block in blocks if block.startswith(b"data: ")]


def _framing_of(head: Head, status: int, method: str) -> Framing:
    if method == "HEAD" or status in (204, 304):
        return "none"
    if is_chunked(head):
        return "chunked"
    return "length" if content_length(head) is not None else "close"
