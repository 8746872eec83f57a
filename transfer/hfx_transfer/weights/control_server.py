"""The seed's side of the control plane: HTTP in a thread of its own. Decides nothing."""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.weights.desk import Desk
from hfx_transfer.weights.loop_thread import LoopThread
from hfx_transfer.weights.wire import (
    CHUNKS_PATH,
    LEASE_PATH,
    LONGEST_WAIT_S,
    MANIFEST_PATH,
    METRICS_PATH,
    METRICS_TYPE,
    STATUS_OF,
    LeaseRequest,
    Refusal,
)

_MAX_BODY_BYTES = 4096
_SWEEP_PERIOD_S = 0.25
"""How often leases that ran out are looked for: a fraction of how long they run."""


class ControlServer:
    """Serves a desk on a port until it is closed.

    Args:
        desk: decides.
        host: interface to listen on.
        port: 0 for any free one.
        token: what each request must bring, those of a Prometheus too; None for nothing.
        render_metrics: returns what /metrics shows; None where there is no such page.

    Raises:
        TransferError: it cannot listen there (unavailable).
    """

    def __init__(
        self,
        desk: Desk,
        *,
        host: str,
        port: int,
        token: str | None,
        render_metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self._desk = desk
        self._render_metrics = render_metrics
        self._token = token
        self._changed = asyncio.Event()
        self._thread = LoopThread("hfx-seed-control")
        try:
            self._runner, self.port = self._thread.run(self._start(host, port))
        except OSError as exc:
            self._thread.close()
            raise TransferError(
                f"cannot listen on {host}:{port} ({exc.strerror})",
                fault=TransferFault.UNAVAILABLE,
            ) from exc

    def notify(self) -> None:
        """Let receivers that wait know that a chunk was verified; from any thread."""
        self._thread.call_soon(self._wake)

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._thread.run(self._runner.cleanup())
        self._thread.close()

    async def _start(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        app = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY_BYTES)
        app.router.add_get(MANIFEST_PATH, self._get_manifest)
        app.router.add_post(LEASE_PATH, self._post_lease)
        app.router.add_put(LEASE_PATH + "/{lease_id}", self._put_lease)
        app.router.add_delete(LEASE_PATH + "/{lease_id}", self._delete_lease)
        app.router.add_get(CHUNKS_PATH, self._get_chunks)
        app.router.add_get(METRICS_PATH, self._get_metrics)
        # Receivers that wait for a chunk are not waited for when the seed ends.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._sweeper = asyncio.create_task(self._sweep())
        return runner, runner.addresses[0][1]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_PERIOD_S)
            self._desk.sweep()

    @web.middleware
    async def _guard(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            self._check_token(request)
            return await handler(request)
        except TransferError as exc:
            refusal = Refusal(fault=exc.fault, message=str(exc))
            return _json(refusal, status=STATUS_OF[exc.fault])

    def _check_token(self, request: web.Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise TransferError("the token is missing or wrong", fault=TransferFault.UNAUTHORIZED)

    async def _get_manifest(self, _: web.Request) -> web.Response:
        return web.Response(body=self._desk.manifest(), content_type="application/json")

    async def _post_lease(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=LeaseRequest)
        except msgspec.DecodeError as exc:
            raise TransferError(f"lease: {exc}", fault=TransferFault.PROTOCOL) from exc
        return _json(self._desk.grant(asked), status=201)

    async def _put_lease(self, request: web.Request) -> web.Response:
        return _json(self._desk.renew(request.match_info["lease_id"]))

    async def _delete_lease(self, request: web.Request) -> web.Response:
        self._desk.release(request.match_info["lease_id"])
        return web.Response(status=204)

    async def _get_metrics(self, request: web.Request) -> web.Response:
        if self._render_metrics is None:
            raise web.HTTPNotFound
        return web.Response(body=self._render_metrics(), headers={"Content-Type": METRICS_TYPE})

    async def _get_chunks(self, request: web.Request) -> web.Response:
        try:
            known = int(request.query.get("known", "-1"))
            wait_s = float(request.query.get("wait_s", "0"))
        except ValueError as exc:
            raise TransferError(f"chunks: {exc}", fault=TransferFault.PROTOCOL) from exc
        if not wait_s >= 0:
            raise TransferError(f"chunks: wait_s is {wait_s}", fault=TransferFault.PROTOCOL)
        changed = self._changed
        if self._desk.num_verified() == known:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), min(wait_s, LONGEST_WAIT_S))
        return _json(self._desk.chunk_state())


def _json(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")
