"""Turns every exception into an answer. Nothing here shows a traceback to a client."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from hfx_router.control.answers import error_response
from hfx_router.control.context import context_of
from hfx_sgl.errors import (
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
)

_log = structlog.get_logger(__name__)


def install_exception_handlers(app: FastAPI) -> None:
    """Register the handlers of this module."""
    app.add_exception_handler(RequestError, _on_request_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_crash)


async def _on_request_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestError)
    return error_response(exc)


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    """Answer what the routing itself refuses: unknown paths and wrong methods."""
    assert isinstance(exc, HTTPException)
    path = request.url.path
    if exc.status_code == HTTPStatus.NOT_FOUND and path in context_of(request).post_paths:
        return _wrong_method(request, "POST")
    if exc.status_code == HTTPStatus.NOT_FOUND:
        return error_response(NotFoundError(f"no such path: {path}"))
    if exc.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _wrong_method(request, _allowed_methods(request))
    return error_response(InvalidRequestError(str(exc.detail)))


def _allowed_methods(request: Request) -> str:
    """Return what the path takes, over all routes that share it."""
    routes: list[Route] = request.app.state.control_routes
    methods = {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return ", ".join(sorted(methods))


def _wrong_method(request: Request, allowed: str) -> Response:
    error = MethodNotAllowedError(
        f"{request.url.path} does not take {request.method}; allowed: {allowed}"
    )
    return error_response(error, {"allow": allowed})


async def _on_validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    return error_response(InvalidRequestError(f"{name}: {first['msg']}", param=name or None))


async def _on_crash(request: Request, exc: Exception) -> Response:
    _log.error("control_request_crashed", path=request.url.path, exc_info=exc)
    return error_response(RequestError("internal error; the log of the router has the details"))
