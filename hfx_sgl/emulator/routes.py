"""Which path leads where, and what stands in front of all of them: faults and the API key."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from hfx_sgl.emulator.api.call import json_response
from hfx_sgl.emulator.api.control import ControlRoutes
from hfx_sgl.emulator.api.inference import InferenceRoutes
from hfx_sgl.emulator.api.status import StatusRoutes
from hfx_sgl.emulator.failures import BodyError, ValueRefused, error_json, refused_json

if TYPE_CHECKING:
    from hfx_sgl.emulator.worker import Worker

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

INFERENCE_PATHS: Final = frozenset(("/generate", "/v1/chat/completions", "/v1/completions"))
OPEN_PATHS: Final = frozenset(("/health", "/health_generate", "/ready", "/metrics", "/ping"))
"""Answered without a key."""


class Router:
    """Handles every request of one worker."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        key = worker.settings.api_key
        self._authorization = None if key is None else f"Bearer {key}"
        self._routes: dict[str, dict[str, Handler]] = {
            **InferenceRoutes(worker).routes(),
            **StatusRoutes(worker).routes(),
            **ControlRoutes(worker).routes(),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        path = request.path
        methods = self._routes.get(path)
        if not self._may_enter(request):
            return json_response({"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
        if methods is None:
            if request.method == "GET" and path.startswith("/v1/models/"):
                return StatusRoutes(self._worker).model(path.removeprefix("/v1/models/"))
            return json_response({"detail": "Not Found"}, HTTPStatus.NOT_FOUND)
        handler = methods.get(request.method)
        if handler is None:
            response = json_response(
                {"detail": "Method Not Allowed"}, HTTPStatus.METHOD_NOT_ALLOWED
            )
            response.headers["allow"] = ", ".join(methods)
            return response
        if path in INFERENCE_PATHS:
            answer = await self._fault(request)
            if answer is not None:
                return answer
        try:
            return await handler(request)
        except BodyError as exc:
            return json_response(exc.json(), HTTPStatus.BAD_REQUEST)
        except ValueRefused as exc:
            return json_response(refused_json(exc.message), HTTPStatus.BAD_REQUEST)

    def _may_enter(self, request: web.BaseRequest) -> bool:
        if self._authorization is None or request.path in OPEN_PATHS:
            return True
        return request.headers.get("authorization") == self._authorization

    async def _fault(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Do to the request what the faults say; None when it is to be served."""
        fault = self._worker.faults.next()
        if fault.latency_s:
            await asyncio.sleep(fault.latency_s)
        if fault.resets and request.transport is not None:
            # Unread input makes the kernel send a reset instead of an orderly end.
            request.transport.abort()
            await asyncio.sleep(0)
            return web.Response()
        if fault.error_status is None:
            return None
        status = HTTPStatus(fault.error_status)
        return json_response(error_json("an emulated fault", str(status.value), status), status)
