"""FastAPI dependencies that check the API key of a control request."""

from fastapi import Request

from hfx_router.control.context import context_of


async def require_key(request: Request) -> None:
    """Want the key that requests need."""
    context_of(request).api_keys.check(request.headers.get("authorization"))


async def require_viewer(request: Request) -> None:
    """Want a key that may look at the control plane."""
    context_of(request).api_keys.check_control(
        request.headers.get("authorization"), is_change=False
    )


async def require_admin(request: Request) -> None:
    """Want a key that may change the workers, whatever the method: a GET can flush caches too."""
    context_of(request).api_keys.check_control(request.headers.get("authorization"), is_change=True)
