"""Flushes the workers' prefix caches."""

from http import HTTPStatus

from fastapi import APIRouter, Depends, Request, Response

from hfx_router.control.answers import json_response
from hfx_router.control.context import context_of
from hfx_router.control.fanout import ask_each, problems, with_query
from hfx_router.control.guard import require_admin

router = APIRouter(dependencies=[Depends(require_admin)])


@router.api_route("/flush_cache", methods=["GET", "POST"])
async def flush_cache(request: Request) -> Response:
    """Flush every registered worker; 200 only when all of them did it.

    The body is sglang-router's. Its status for a partial success is 206, which clients take
    for success; here it is 502.
    """
    context = context_of(request)
    asked = await ask_each(
        context.session,
        context.registry.workers,
        with_query("/flush_cache", request.url.query),
        method="POST",
        timeout_s=context.timeouts.flush_s,
    )
    flushed = [worker.spec.url for worker, answer in asked if answer.is_ok]
    failed = problems(asked)
    counts = {
        "workers_flushed": len(flushed),
        "total_http_workers": len(asked),
        "total_workers": len(asked),
    }
    if not failed:
        message = f"Successfully flushed cache on all {len(asked)} HTTP workers"
        return json_response({"status": "success", "message": message, **counts})
    body = {
        "status": "partial_success" if flushed else "failed",
        "message": f"Cache flush: {len(flushed)} succeeded, {len(failed)} failed",
        **counts,
        "successful": flushed,
        "failed": [{"worker": url, "error": error} for url, error in failed.items()],
    }
    return json_response(body, HTTPStatus.BAD_GATEWAY)
