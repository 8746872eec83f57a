"""One inference request from its body to the end of its answer, whole or as an event stream."""

import asyncio
from http import HTTPStatus
from typing import Protocol

import orjson
from aiohttp import HttpVersion11, web

from hfx_sgl.emulator.desk import Desk
from hfx_sgl.emulator.failures import Json
from hfx_sgl.emulator.sequence import Ask, Sequence

EVENT_STREAM = "text/event-stream; charset=utf-8"
MAX_BUFFERED_BYTES = 1 << 20
"""A client that reads more slowly than this gets several tokens in one event."""
DONE = b"data: [DONE]\n\n"


class Shape(Protocol):
    """How an endpoint words its answers. Made for one request."""

    asks: list[Ask]
    streams: bool

    def events(self, index: int, sequence: Sequence) -> bytes:
        """Return what is new in a sequence as events; nothing when nothing is."""
        ...

    def last_events(self, sequences: list[Sequence]) -> bytes:
        """Return what comes after the events of all sequences."""
        ...

    def whole(self, sequences: list[Sequence]) -> tuple[HTTPStatus, Json | list[Json]]:
        """Return the answer of a request that does not stream."""
        ...


async def serve(request: web.BaseRequest, shape: Shape, desk: Desk) -> web.StreamResponse:
    """Compute and answer. Whoever stops waiting frees the engine.

    Raises:
        ValueRefused: a request of the same id is here already.
    """
    if shape.streams:
        return await _stream(request, shape, desk)
    sequences = desk.begin(shape.asks)
    try:
        await _all_ended(sequences)
    finally:
        desk.leave(sequences)
    status, content = shape.whole(sequences)
    return json_response(content, status)


async def _stream(request: web.BaseRequest, shape: Shape, desk: Desk) -> web.StreamResponse:
    desk.check_rids(shape.asks)
    stream = EventStream(request)
    await stream.start()

    def update(index: int, sequence: Sequence) -> None:
        # What is not written stays unsent, and the next event has more of it.
        if sequence.is_ended or not stream.is_congested:
            stream.send(shape.events(index, sequence))

    sequences = desk.begin(shape.asks, update)
    try:
        await _all_ended(sequences)
    finally:
        desk.leave(sequences)
    stream.send(shape.last_events(sequences) + DONE)
    return await stream.end()


async def _all_ended(sequences: list[Sequence]) -> None:
    # Awaiting a future directly would cancel it together with the handler, and it is not ours.
    await asyncio.wait([sequence.ended for sequence in sequences])


class EventStream:
    """An event stream whose events are written by plain calls, out of the engine's step."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={"content-type": EVENT_STREAM})
        self._is_chunked = request.version >= HttpVersion11
        if self._is_chunked:
            self._response.enable_chunked_encoding()

    async def start(self) -> None:
        """Send the head."""
        await self._response.prepare(self._request)

    async def end(self) -> web.StreamResponse:
        """Complete the answer."""
        await self._response.write_eof()
        return self._response

    @property
    def is_congested(self) -> bool:
        """Whether the client reads too slowly."""
        transport = self._request.transport
        return transport is not None and transport.get_write_buffer_size() > MAX_BUFFERED_BYTES

    def send(self, data: bytes) -> None:
        """Write at once; nothing happens when the client has left."""
        transport = self._request.transport
        if not data or transport is None or transport.is_closing():
            return
        # aiohttp's own write is a coroutine; a task switch for each token would double the cost.
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)


def event(content: Json) -> bytes:
    """Return one event."""
    return b"data: %b\n\n" % orjson.dumps(content)


def json_response(
    content: Json | list[Json] | None, status: HTTPStatus = HTTPStatus.OK
) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")
