"""The bootstrap server of a prefill worker: SGLang's probes, and the rendezvous itself."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import WSMsgType, web

from hfx_sgl.emulator.pd.messages import (
    RENDEZVOUS_PATH,
    ROUTE_PATH,
    ROUTE_QUERY,
    Message,
    decode_message,
)
from hfx_sgl.emulator.pd.prefill_rooms import PrefillRooms


class BootstrapServer:
    """Answers on the bootstrap port.

    Args:
        is_prefill: whether the worker is a prefill worker at present.
        describe: the facts of the pool that `/route` reports.
    """

    def __init__(
        self,
        rooms: PrefillRooms,
        *,
        is_prefill: Callable[[], bool],
        describe: Callable[[], dict[str, object]],
    ) -> None:
        self._rooms = rooms
        self._is_prefill = is_prefill
        self._describe = describe
        self._runner: web.ServerRunner | None = None
        self._host, self._port = "", 0

    @property
    def server(self) -> web.Server | None:
        """The HTTP server, once it has started."""
        return None if self._runner is None else self._runner.server

    async def start(self, host: str, port: int) -> None:
        """Begin to listen."""
        self._host, self._port = host, port
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "GET", "/health":
                return web.Response(text="OK")
            case "GET", path if path == ROUTE_PATH:
                return self._route(request)
            case "POST", "/query_dp_ranks":
                return web.json_response({})
            case "GET", path if path == RENDEZVOUS_PATH:
                return await self._rendezvous(request)
            case _, "/route" | "/health" | "/query_dp_ranks":
                return web.json_response(
                    text="Method not allowed", status=HTTPStatus.METHOD_NOT_ALLOWED
                )
            case _:
                return web.Response(status=HTTPStatus.NOT_FOUND, text="404: Not Found")

    def _route(self, request: web.BaseRequest) -> web.Response:
        values = [request.query.get(name) for name in ROUTE_QUERY]
        if any(value is None for value in values):
            return web.Response(
                status=HTTPStatus.BAD_REQUEST, text="Missing inputs for bootstrap server."
            )
        if not self._is_prefill():
            return web.Response(
                status=HTTPStatus.SERVICE_UNAVAILABLE, text="no prefill server has registered"
            )
        if all(value == "-1" for value in values):
            return web.json_response(self._describe())
        return web.json_response({"rank_ip": self._host, "rank_port": self._port})

    async def _rendezvous(self, request: web.BaseRequest) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        outbox: asyncio.Queue[Message] = asyncio.Queue()
        send = outbox.put_nowait
        writer = asyncio.create_task(_write_all(outbox, socket))
        try:
            async for item in socket:
                if item.type is WSMsgType.TEXT:
                    self._rooms.receive(decode_message(item.data), send)
        finally:
            writer.cancel()
            self._rooms.lost(send)
        return socket


async def _write_all(outbox: asyncio.Queue[Message], socket: web.WebSocketResponse) -> None:
    while True:
        message = await outbox.get()
        try:
            await socket.send_str(message.encode())
        except ConnectionError:
            # The reader notices the same and cleans up.
            return
