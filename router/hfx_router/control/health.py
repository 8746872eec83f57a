"""Is the process alive, may it get traffic, and can its workers generate."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from hfx_router.control.answers import json_response
from hfx_router.control.context import ControlContext, context_of
from hfx_router.control.fanout import Asked, ask_each
from hfx_router.pairs.refusal import no_pair
from hfx_sgl.policy.pairs.view import with_partner
from hfx_sgl.types import Role

router = APIRouter()


@router.api_route("/liveness", methods=["GET", "HEAD"])
@router.api_route("/health", methods=["GET", "HEAD"])
@router.api_route("/healthz", methods=["GET", "HEAD"])
async def liveness() -> Response:
    """Answer 200 as long as the process answers at all."""
    return PlainTextResponse("OK")


@router.api_route("/readiness", methods=["GET", "HEAD"])
@router.api_route("/readyz", methods=["GET", "HEAD"])
async def readiness(request: Request) -> Response:
    """Answer 200 while every pool that is needed has a usable worker and nobody shuts us down."""
    context = context_of(request)
    num_usable = {str(role): len(context.registry.usable(role)) for role in context.roles}
    counts = {
        "healthy_workers": sum(num_usable.values()),
        "total_workers": len(context.registry.workers),
        "usable": num_usable,
    }
    missing = [role for role, count in num_usable.items() if count == 0]
    if context.is_draining():
        reason = "shutting down"
    elif missing:
        reason = f"insufficient healthy workers: no usable {' and no usable '.join(missing)} worker"
    else:
        reason = _pairing_problem(context)
        if not reason:
            return json_response({"status": "ready", **counts})
    return json_response(
        {"status": "not ready", "reason": reason, **counts}, HTTPStatus.SERVICE_UNAVAILABLE
    )


def _pairing_problem(context: ControlContext) -> str:
    """Return why none of the usable workers can be paired; empty when some can."""
    book, registry = context.pairs, context.registry
    if book is None or not book.barred:
        return ""
    prefills, decodes = map(registry.usable, (Role.PREFILL, Role.DECODE))
    if with_partner(book, prefills, decodes):
        return ""
    return no_pair(book, registry, context.now_s()).message


@router.api_route("/health_generate", methods=["GET", "HEAD"])
async def health_generate(request: Request) -> Response:
    """Have every usable worker generate; 200 when each needed pool has one that can."""
    context = context_of(request)
    run: Callable[[], Awaitable[list[Asked]]] = request.app.state.health_generate
    asked = await run()
    missing = [
        role
        for role in context.roles
        if not any(answer.is_ok and worker.role is role for worker, answer in asked)
    ]
    detail = {
        "status": "not ready" if missing else "ready",
        "failed_roles": missing,
        "workers": [
            {
                "worker": worker.spec.url,
                "worker_type": worker.role,
                "ok": answer.is_ok,
                "error": None if answer.is_ok else answer.problem,
            }
            for worker, answer in asked
        ],
    }
    return json_response(detail, HTTPStatus.SERVICE_UNAVAILABLE if missing else HTTPStatus.OK)


async def generate_everywhere(context: ControlContext) -> list[Asked]:
    """Ask every usable worker for one generated token."""
    return await ask_each(
        context.session,
        context.usable(),
        "/health_generate",
        timeout_s=context.timeouts.health_generate_s,
    )
