"""The models that the workers serve, as the workers describe them."""

from fastapi import APIRouter, Request, Response

from hfx_router.control.answers import json_response, relay
from hfx_router.control.context import ControlContext, context_of
from hfx_router.control.fanout import Asked, ask_each, problems
from hfx_sgl.errors import NotFoundError, UnavailableError, UpstreamError

router = APIRouter()


@router.api_route("/v1/models", methods=["GET", "HEAD"])
async def list_models(request: Request) -> Response:
    """List every model once."""
    asked = await _ask_models(request)
    refusal = _refusal(asked)
    if refusal is not None:
        return refusal
    return json_response({"object": "list", "data": list(_by_id(asked).values())})


@router.api_route("/v1/models/{model_id:path}", methods=["GET", "HEAD"])
async def get_model(request: Request) -> Response:
    """Return one model; its id may contain slashes."""
    model_id = request.path_params["model_id"]
    asked = await _ask_models(request)
    refusal = _refusal(asked)
    if refusal is not None:
        return refusal
    model = _by_id(asked).get(model_id)
    if model is None:
        raise NotFoundError(
            f"the model {model_id!r} does not exist", code="model_not_found", param="model"
        )
    return json_response(model)


async def _ask_models(request: Request) -> list[Asked]:
    context = context_of(request)
    workers = context.usable()
    if not workers:
        raise no_usable_worker(context)
    return await ask_each(
        context.session,
        workers,
        "/v1/models",
        timeout_s=context.timeouts.info_s,
        authorization=request.headers.get("authorization"),
    )


def _refusal(asked: list[Asked]) -> Response | None:
    """Return the answer when no worker gave its models: a worker's own 4xx, else a 502."""
    if any(answer.is_ok for _, answer in asked):
        return None
    for _, answer in asked:
        if answer.status is not None and answer.status < 500:
            return relay(answer)
    raise UpstreamError(f"no worker listed its models: {problems(asked)}")


def _by_id(asked: list[Asked]) -> dict[str, dict[str, object]]:
    models: dict[str, dict[str, object]] = {}
    for _, answer in asked:
        listing = (answer.json_object() or {}).get("data") if answer.is_ok else None
        for model in listing if isinstance(listing, list) else []:
            if isinstance(model, dict) and isinstance(model.get("id"), str):
                models.setdefault(model["id"], model)
    return models


def no_usable_worker(context: ControlContext) -> UnavailableError:
    """Return the error for a question that only a worker can answer."""
    roles = " or ".join(context.roles)
    # A breaker half-opens and a health check comes round within seconds.
    return UnavailableError(f"no usable {roles} worker", retry_after_s=1.0)
