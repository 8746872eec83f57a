"""The endpoints that tell: health, facts, load, metrics, models, tokens."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hfx_sgl.clock import unix_time_s
from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.api import fields, info
from hfx_sgl.emulator.api.call import json_response
from hfx_sgl.emulator.api.chat import chat_tokens
from hfx_sgl.emulator.api.generate import encode_ids
from hfx_sgl.emulator.api.loads import SECTIONS, load_json, loads_json, loads_prometheus
from hfx_sgl.emulator.failures import BodyError
from hfx_sgl.emulator.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from hfx_sgl.emulator.worker import Worker

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class StatusRoutes:
    """See routes.Router."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Return the handlers by path and method."""
        gets: dict[str, Handler] = {
            "/health": self.health,
            "/health_generate": self.health,
            "/ready": self.health,
            "/ping": self.health,
            "/server_info": self.server_info,
            "/get_server_info": self.server_info,
            "/model_info": self.model_info,
            "/get_model_info": self.model_info,
            "/v1/models": self.models,
            "/v1/loads": self.loads,
            "/metrics": self.metrics,
        }
        posts: dict[str, Handler] = {
            "/tokenize": self.tokenize,
            "/v1/tokenize": self.tokenize,
            "/detokenize": self.detokenize,
            "/v1/detokenize": self.detokenize,
        }
        return {path: {"GET": handler} for path, handler in gets.items()} | {
            path: {"POST": handler} for path, handler in posts.items()
        }

    async def health(self, request: web.BaseRequest) -> web.StreamResponse:
        """200 once the engine takes requests and its time goes on, else 503."""
        driver = self._worker.driver
        is_well = driver.is_ready and not driver.is_held
        return web.Response(status=HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)

    async def server_info(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/server_info`."""
        load = self._worker.driver.load()
        return json_response(info.server_info(self._worker.settings, load))

    async def model_info(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/model_info`."""
        return json_response(info.model_info(self._worker.settings, self._worker.driver.role))

    async def models(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/v1/models`."""
        card = info.model_card(self._worker.settings, self._worker.created)
        return json_response({"object": "list", "data": [card]})

    def model(self, name: str) -> web.StreamResponse:
        """`/v1/models/NAME`."""
        if name == self._worker.settings.served_model_name:
            return json_response(info.model_card(self._worker.settings, self._worker.created))
        error = {
            "message": f"The model {name!r} does not exist",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
        return json_response({"error": error}, HTTPStatus.NOT_FOUND)

    async def loads(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/v1/loads`."""
        worker = self._worker
        include = request.query.get("include")
        sections = {part.strip() for part in include.split(",")} if include else {"all"}
        if not sections <= set(SECTIONS):
            # The real server does not catch what its own check raises.
            return web.Response(
                status=HTTPStatus.INTERNAL_SERVER_ERROR, text="Internal Server Error"
            )
        rank = request.query.get("dp_rank", "0")
        if not rank.lstrip("-").isdecimal():
            raise BodyError(f"query.dp_rank: must be a whole number, not {rank!r}")
        now_unix_s = unix_time_s()
        load = load_json(
            worker.driver.load(), worker.driver.role, worker.settings, now_unix_s, sections
        )
        if request.query.get("format") == "prometheus":
            return web.Response(
                body=loads_prometheus(load).encode(), headers={"content-type": CONTENT_TYPE}
            )
        loads = [load] if int(rank) == 0 else []
        return json_response(loads_json(loads, worker.settings, now_unix_s))

    async def metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/metrics`: of the engine, then of the bytes that move where they do."""
        mover = self._worker.desk.mover
        body = self._worker.metrics.render() + (b"" if mover is None else mover.metrics())
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE})

    async def tokenize(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/tokenize`: of a prompt, of several, or of messages."""
        body = fields.parse_object(await request.content.read())
        prompt: Any = body.get("prompt")
        if (prompt is None) == (body.get("messages") is None):
            raise BodyError("body: exactly one of prompt and messages must be given")
        found: Any
        num: Any
        if prompt is None:
            found = tokens.token_ids(chat_tokens(body))
            num = len(found)
        elif isinstance(prompt, str):
            found = tokens.token_ids(tokens.encode(prompt))
            num = len(found)
        elif isinstance(prompt, list) and all(isinstance(item, str) for item in prompt):
            found = [tokens.token_ids(tokens.encode(item)) for item in prompt]
            num = [len(ids) for ids in found]
        else:
            raise BodyError("body.prompt: must be a string or a list of strings")
        limit = self._worker.settings.spec.max_context_tokens
        return json_response({"tokens": found, "count": num, "max_model_len": limit})

    async def detokenize(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/detokenize`: of one list of ids, or of several."""
        body = fields.parse_object(await request.content.read())
        ids: Any = body.get("tokens")
        if isinstance(ids, list) and ids and isinstance(ids[0], list):
            return json_response({"text": [_text(item) for item in ids]})
        return json_response({"text": _text(ids)})


def _text(ids: Any) -> str:
    return tokens.decode(encode_ids("tokens", ids))
