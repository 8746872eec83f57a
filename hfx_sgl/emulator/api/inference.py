"""The endpoints that compute: `/generate`, chat and completions, and their refusals."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from hfx_sgl.clock import unix_time_s
from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.call import DONE, EventStream, event, json_response, serve
from hfx_sgl.emulator.api.chat import ChatShape
from hfx_sgl.emulator.api.completions import CompletionShape
from hfx_sgl.emulator.api.generate import GenerateShape
from hfx_sgl.emulator.api.openai import OpenAiHead
from hfx_sgl.emulator.failures import (
    Json,
    ValueRefused,
    error_json,
    native_error,
    native_event,
    refused_json,
)

if TYPE_CHECKING:
    from hfx_sgl.emulator.worker import Worker

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_NO_EMBEDDINGS = (
    "This model does not appear to be an embedding model by default. Please add `--is-embedding` "
    "when launching the server or try another model."
)
_EMBEDDING_PATHS = ("/v1/embeddings", "/v1/rerank", "/rerank", "/v1/classify", "/encode")
_MISSING_PATHS = ("/v1/responses", "/v1/score")


class InferenceRoutes:
    """See routes.Router."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Return the handlers by path and method."""
        return {
            "/generate": {"POST": self.generate, "PUT": self.generate},
            "/v1/chat/completions": {"POST": self.chat},
            "/v1/completions": {"POST": self.completions},
            **{path: {"POST": self.embed} for path in _EMBEDDING_PATHS},
            **{path: {"POST": self.missing} for path in _MISSING_PATHS},
        }

    async def generate(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/generate`."""
        worker = self._worker
        body = fields.parse_object(await request.content.read())
        try:
            shape = GenerateShape(body, worker.limits, worker.clock)
            if not shape.asks:
                return json_response([])
            worker.desk.check_rids(shape.asks)
        except ValueRefused as exc:
            if not fields.flag(body, "stream"):
                return json_response(native_error(exc.message), HTTPStatus.BAD_REQUEST)
            stream = EventStream(request)
            await stream.start()
            stream.send(event(native_event(exc.message)) + DONE)
            return await stream.end()
        return await serve(request, shape, worker.desk)

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/v1/chat/completions`."""
        body = fields.parse_object(await request.content.read())
        shape = ChatShape(body, self._worker.limits, self._head(body))
        return await serve(request, shape, self._worker.desk)

    async def completions(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/v1/completions`."""
        body = fields.parse_object(await request.content.read())
        shape = CompletionShape(body, self._worker.limits, self._head(body))
        return await serve(request, shape, self._worker.desk)

    async def embed(self, request: web.BaseRequest) -> web.StreamResponse:
        """What a model for generation answers to those who want embeddings."""
        return json_response(refused_json(_NO_EMBEDDINGS), HTTPStatus.BAD_REQUEST)

    async def missing(self, request: web.BaseRequest) -> web.StreamResponse:
        """What the real server has and the emulator has not."""
        status = HTTPStatus.NOT_IMPLEMENTED
        message = f"the emulated worker has no {request.path}"
        return json_response(error_json(message, str(status.value), status), status)

    def _head(self, body: Json) -> OpenAiHead:
        return OpenAiHead(
            model=fields.string(body, "model") or "default",
            created=int(unix_time_s()),
            reports_cache=self._worker.settings.reports_cache,
        )
