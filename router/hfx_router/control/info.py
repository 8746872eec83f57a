"""What the servers say about themselves."""

import asyncio
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from hfx_router.control.answers import json_response, relay
from hfx_router.control.context import ControlContext, context_of
from hfx_router.control.fanout import Asked, ask_worker, one_per_server, problems
from hfx_router.control.models import no_usable_worker
from hfx_router.workers.ask import Answer
from hfx_router.workers.worker import Worker
from hfx_sgl.errors import UpstreamError
from hfx_sgl.types import Role

router = APIRouter()


@router.api_route("/server_info", methods=["GET", "HEAD"])
@router.api_route("/get_server_info", methods=["GET", "HEAD"])
async def server_info(request: Request) -> Response:
    """Relay one worker's answer; with separated pools, collect every worker's."""
    context = context_of(request)
    if context.is_pd:
        return await _pd_server_info(context, request.headers.get("authorization"))
    return await _first_answer(request, "/server_info")


@router.api_route("/model_info", methods=["GET", "HEAD"])
@router.api_route("/get_model_info", methods=["GET", "HEAD"])
async def model_info(request: Request) -> Response:
    """Relay one worker's answer, a prefill's with separated pools."""
    return await _first_answer(request, "/model_info")


async def _first_answer(request: Request, path: str) -> Response:
    """Relay the first worker's answer that is not the worker's own failure."""
    context = context_of(request)
    asked: list[Asked] = []
    for worker in one_per_server(context.registry.usable(context.roles[0])):
        answer = await _ask_info(context, worker, path, request.headers.get("authorization"))
        if answer.status is not None and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return relay(answer)
        asked.append(Asked(worker, answer))
    if not asked:
        raise no_usable_worker(context)
    raise UpstreamError(f"no worker answered {path}: {problems(asked)}")


async def _pd_server_info(context: ControlContext, authorization: str | None) -> Response:
    """Collect both pools; load generators read `decode[0].internal_states`."""
    workers = one_per_server(context.usable())
    if not workers:
        raise no_usable_worker(context)
    answers = await asyncio.gather(
        *(_ask_info(context, worker, "/server_info", authorization) for worker in workers)
    )
    asked = [Asked(worker, answer) for worker, answer in zip(workers, answers, strict=True)]
    errors = problems(asked)
    by_role: dict[Role, list[dict[str, object]]] = {Role.PREFILL: [], Role.DECODE: []}
    states: list[object] = []
    for worker, answer in asked:
        info = answer.json_object() if answer.is_ok else None
        if info is None:
            errors.setdefault(worker.spec.url, "the answer is not a JSON object")
            continue
        by_role[worker.role].append(info)
        found = info.get("internal_states")
        if worker.role is Role.DECODE and isinstance(found, list):
            states.extend(found)
    if len(errors) == len(asked):
        raise UpstreamError(f"no worker answered /server_info: {errors}")
    body: dict[str, object] = {
        "prefill": by_role[Role.PREFILL],
        "decode": by_role[Role.DECODE],
        "internal_states": states,
    }
    return json_response(body | ({"errors": errors} if errors else {}))


async def _ask_info(
    context: ControlContext, worker: Worker, path: str, authorization: str | None
) -> Answer:
    timeout_s = context.timeouts.info_s
    answer = await ask_worker(
        context.session, worker, path, timeout_s=timeout_s, authorization=authorization
    )
    if answer.status == HTTPStatus.NOT_FOUND:
        # SGLang before 0.5 knows only the names with get_.
        answer = await ask_worker(
            context.session,
            worker,
            path.replace("/", "/get_", 1),
            timeout_s=timeout_s,
            authorization=authorization,
        )
    return answer
