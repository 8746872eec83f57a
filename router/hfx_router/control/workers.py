"""/workers: adds, shows, changes and removes workers. Changes are queued and answered with 202."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from hfx_router.control.answers import json_response
from hfx_router.control.context import context_of
from hfx_router.control.guard import require_admin, require_viewer
from hfx_router.control.worker_bodies import AddBody, UpdateBody, read_body
from hfx_router.control.worker_json import JsonObject, job_json, unregistered_json, worker_json
from hfx_router.workers.jobs import JobState
from hfx_sgl.errors import ConflictError, InvalidRequestError, NotFoundError, RequestError
from hfx_sgl.types import Role

router = APIRouter()

MAY_VIEW = [Depends(require_viewer)]
MAY_CHANGE = [Depends(require_admin)]


@router.api_route("/workers", methods=["GET", "HEAD"], dependencies=MAY_VIEW)
async def list_workers(request: Request) -> Response:
    """List the registered workers, and beside them the registrations that are not done."""
    context = context_of(request)
    registry, jobs = context.registry, context.registrar.jobs
    workers = registry.workers
    body: JsonObject = {
        "workers": [worker_json(worker, jobs.get(worker.worker_id)) for worker in workers],
        "total": len(workers),
        "stats": {
            f"{role}_count": sum(worker.role is role for worker in workers)
            for role in (Role.PREFILL, Role.DECODE, Role.REGULAR)
        },
    }
    unfinished = [
        {"worker_id": worker_id, **job_json(job)}
        for worker_id, job in jobs.items()
        if job.state is not JobState.COMPLETED and registry.get(worker_id) is None
    ]
    if unfinished:
        body["jobs"] = unfinished
    return json_response(body)


@router.api_route("/workers", methods=["POST"], dependencies=MAY_CHANGE)
async def add_worker(request: Request) -> Response:
    """Queue the registration of a worker."""
    context = context_of(request)
    try:
        body = await read_body(request, AddBody)
        spec = body.spec(is_pd=context.is_pd, is_dp_aware=context.is_dp_aware)
        worker_id = context.registrar.submit(spec)
    except InvalidRequestError as exc:
        return _refusal(exc)
    location = f"/workers/{worker_id}"
    message = "Worker addition queued for background processing"
    if body.ignored:
        message += f"; without effect: {', '.join(body.ignored)}"
    accepted = {
        "status": "accepted",
        "worker_id": worker_id,
        "url": body.url,
        "location": location,
        "message": message,
    }
    return json_response(accepted, HTTPStatus.ACCEPTED, {"location": location})


@router.api_route("/workers/{worker_id}", methods=["GET", "HEAD"], dependencies=MAY_VIEW)
async def get_worker(request: Request) -> Response:
    """Show one worker, or how far its registration has come."""
    context = context_of(request)
    try:
        worker_id = _worker_id(request)
        worker = context.registry.get(worker_id)
        job = context.registrar.jobs.get(worker_id)
        if worker is not None:
            return json_response(worker_json(worker, job))
        if job is not None and job.state is not JobState.COMPLETED:
            return json_response(unregistered_json(worker_id, job))
        raise NotFoundError(f"Worker {worker_id} not found", code="WORKER_NOT_FOUND")
    except InvalidRequestError as exc:
        return _refusal(exc)


@router.api_route("/workers/{worker_id}", methods=["PUT"], dependencies=MAY_CHANGE)
async def update_worker(request: Request) -> Response:
    """Change a worker's priority, cost, labels, key or health checks."""
    try:
        worker_id = _worker_id(request)
        body = await read_body(request, UpdateBody)
        context_of(request).registrar.update(worker_id, body.apply)
    except InvalidRequestError as exc:
        return _refusal(exc)
    return _accepted(worker_id, "Worker update queued for background processing")


@router.api_route("/workers/{worker_id}", methods=["DELETE"], dependencies=MAY_CHANGE)
async def remove_worker(request: Request) -> Response:
    """Take a worker out of selection at once; its record goes when its requests are done."""
    try:
        worker_id = _worker_id(request)
        context_of(request).registrar.remove(worker_id)
    except InvalidRequestError as exc:
        return _refusal(exc)
    return _accepted(worker_id, "Worker removal queued for background processing")


def _accepted(worker_id: str, message: str) -> Response:
    return json_response(
        {"status": "accepted", "worker_id": worker_id, "message": message}, HTTPStatus.ACCEPTED
    )


def _worker_id(request: Request) -> str:
    """Return the id in the path in its usual spelling."""
    text = request.path_params["worker_id"]
    try:
        return str(UUID(text))
    except ValueError as exc:
        raise InvalidRequestError(
            f"Invalid worker_id {text!r} (expected UUID)", param="worker_id"
        ) from exc


def _refusal(error: RequestError) -> Response:
    """Return an error in the flat shape that clients of /workers know from sglang-router."""
    code = error.code
    if isinstance(error, ConflictError):
        code = "CONFLICT"
    elif code == InvalidRequestError.default_code:
        code = "BAD_REQUEST"
    body: JsonObject = {"error": error.message, "code": code}
    if error.param is not None:
        body["param"] = error.param
    return json_response(body, error.http_status)
