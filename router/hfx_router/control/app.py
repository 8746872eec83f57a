"""Builds the FastAPI app of the control plane."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from hfx_router.control import (
    cache,
    decisions,
    engine_metrics,
    health,
    info,
    loads,
    models,
    pairs,
    workers,
)
from hfx_router.control.context import ControlContext
from hfx_router.control.exceptions import install_exception_handlers
from hfx_router.control.shared_call import SharedCall


def build_app(context: ControlContext) -> FastAPI:
    """Return the app; it holds no state beside the context."""
    app = FastAPI(title="hfx-router", openapi_url=None, redirect_slashes=False)
    app.state.context = context
    # Open to everybody and expensive: however many ask, the workers generate once at a time.
    app.state.health_generate = SharedCall(lambda: health.generate_everywhere(context))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(context.cors_origins) or ["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    install_exception_handlers(app)
    routers = [
        module.router
        for module in (
            cache,
            decisions,
            engine_metrics,
            health,
            info,
            loads,
            models,
            pairs,
            workers,
        )
    ]
    for router in routers:
        app.include_router(router)
    # FastAPI does not say which methods a path takes; a 405 has to.
    app.state.control_routes = [
        route for router in routers for route in router.routes if isinstance(route, Route)
    ]
    return app
