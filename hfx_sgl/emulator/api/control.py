"""The endpoints that change something: aborts, the cache, pauses, the role, faults."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from hfx_sgl.emulator.api import fields
from hfx_sgl.emulator.api.call import json_response
from hfx_sgl.emulator.api.loads import MODES
from hfx_sgl.emulator.failures import BodyError, Json, ValueRefused
from hfx_sgl.engine.refusal import EngineRefusal
from hfx_sgl.types import Role

if TYPE_CHECKING:
    from hfx_sgl.emulator.worker import Worker

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. (When there are running or "
    "waiting requests, the operation will not be performed.)\n"
)
_PAUSE_MODES = ("abort", "retract", "in_place")


class ControlRoutes:
    """See routes.Router."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._death: asyncio.Task[None] | None = None

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Return the handlers by path and method."""
        posts: dict[str, Handler] = {
            "/abort_request": self.abort_request,
            "/slow_down": self.slow_down,
            "/pause_generation": self.pause,
            "/continue_generation": self.resume,
            "/pd_role_switch": self.pd_role_switch,
        }
        return {path: {"POST": handler} for path, handler in posts.items()} | {
            "/flush_cache": {"GET": self.flush_cache, "POST": self.flush_cache},
            "/emulated/faults": {"GET": self.show_faults, "POST": self.set_faults},
        }

    async def abort_request(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/abort_request`: 200 whether there was such a request or not."""
        body = fields.parse_object(await request.content.read())
        rid = fields.string(body, "rid")
        if fields.flag(body, "abort_all"):
            self._worker.desk.abort_all()
        elif rid:
            self._worker.desk.abort(rid)
        return web.Response()

    async def flush_cache(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/flush_cache`."""
        if self._worker.driver.flush_cache():
            return web.Response(text=_FLUSHED)
        return web.Response(text="Flush cache failed.\n", status=HTTPStatus.BAD_REQUEST)

    async def slow_down(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/slow_down`: makes each step longer by `forward_sleep_time` seconds."""
        body = fields.parse_object(await request.content.read())
        extra_s = fields.number(body, "forward_sleep_time") or 0.0
        if extra_s < 0:
            raise BodyError(f"body.forward_sleep_time: must not be negative ({extra_s})")
        self._worker.driver.set_extra_step_s(extra_s)
        return json_response(None)

    async def pause(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/pause_generation`: the engine's time stands still; mode abort ends all requests."""
        body = fields.parse_object(await request.content.read())
        mode = fields.string(body, "mode") or "abort"
        if mode not in _PAUSE_MODES:
            raise BodyError(f"body.mode: must be one of {', '.join(_PAUSE_MODES)}, not {mode!r}")
        if mode == "abort":
            self._worker.desk.abort_all()
        self._worker.stall(None)
        return json_response({"message": "Generation paused successfully.", "status": "ok"})

    async def resume(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/continue_generation`."""
        self._worker.resume()
        return json_response({"message": "Generation continued successfully.", "status": "ok"})

    async def pd_role_switch(self, request: web.BaseRequest) -> web.StreamResponse:
        """`/pd_role_switch`: answers when the change is done."""
        driver = self._worker.driver
        body = fields.parse_object(await request.content.read())
        new_role = fields.string(body, "new_role") or ""
        if new_role not in ("prefill", "decode", ""):
            raise BodyError(f"body.new_role: must be prefill or decode, not {new_role!r}")
        old_role = driver.role
        problem = self._switch_problem(old_role, new_role)
        if problem is not None:
            return _switch_answer(old_role, new_role, *problem)
        if new_role == old_role:
            return _switch_answer(old_role, new_role, "already in target role", False, True)
        try:
            driver.switch_role(Role(new_role))
        except EngineRefusal:
            message = "instance is not idle; drain all requests before switching"
            return _switch_answer(old_role, new_role, message, True)
        await asyncio.sleep(driver.ready_in_s)
        return _switch_answer(old_role, new_role, "ok", False, True)

    async def show_faults(self, request: web.BaseRequest) -> web.StreamResponse:
        """`GET /emulated/faults`."""
        plan = self._worker.faults.plan
        names = ("latency_s", "error_rate", "error_status", "reset_rate")
        found: Json = {name: getattr(plan, name) for name in names}
        return json_response(found | {"stall": self._worker.driver.is_held})

    async def set_faults(self, request: web.BaseRequest) -> web.StreamResponse:
        """`POST /emulated/faults`: what is not named stays as it is."""
        worker = self._worker
        body = fields.parse_object(await request.content.read())
        stall_s = fields.number(body, "stall_s")
        if stall_s is not None and not 0 < stall_s < math.inf:
            raise ValueRefused(f"stall_s must be more than 0, got {stall_s}")
        stalls, dies = body.get("stall"), fields.flag(body, "die")
        rates = {k: v for k, v in body.items() if k not in ("stall", "stall_s", "die")}
        worker.faults.plan = worker.faults.plan.changed(rates)
        if stall_s is not None or stalls is True:
            worker.stall(stall_s)
        elif stalls is False:
            worker.resume()
        if dies:
            self._death = asyncio.create_task(worker.die())
        return await self.show_faults(request)

    def _switch_problem(self, old_role: Role, new_role: str) -> tuple[str, bool] | None:
        """Return why a change is out of the question, and whether the worker can go on."""
        if not self._worker.settings.has_role_switch:
            return "--enable-pd-role-switch is not set on this server", True
        if not self._worker.driver.is_ready:
            return "another role switch is already in progress", False
        if not new_role:
            return "invalid new_role=''", True
        if old_role is Role.REGULAR:
            return "instance is not running in PD disaggregation mode", True
        return None


def _switch_answer(
    old_role: Role, new_role: str, message: str, is_safe: bool, is_done: bool = False
) -> web.Response:
    content = {
        "rid": None,
        "http_worker_ipc": None,
        "success": is_done,
        "message": message,
        "old_role": MODES[old_role],
        "new_role": new_role,
        "safe_to_restore": is_safe,
    }
    return json_response(content, HTTPStatus.OK if is_done else HTTPStatus.BAD_REQUEST)
