"""Who may ask what: keys, CORS, unknown paths, wrong methods, and exceptions nobody expected."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import Query
from hfx_router.auth import ApiKeys, ControlPlaneKey, KeyRole

NewRouter = Callable[..., Awaitable[Any]]

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
OPEN = [
    "/health", "/healthz", "/liveness", "/readiness", "/readyz", "/health_generate",
    "/v1/models", "/v1/models/x", "/server_info", "/get_server_info", "/model_info",
    "/get_model_info",
]  # fmt: skip
LOCKED = [
    ("GET", "/workers"), ("POST", "/workers"), ("GET", f"/workers/{UNKNOWN_ID}"),
    ("PUT", f"/workers/{UNKNOWN_ID}"), ("DELETE", f"/workers/{UNKNOWN_ID}"),
    ("POST", "/flush_cache"), ("GET", "/flush_cache"), ("GET", "/get_loads"),
    ("GET", "/v1/loads"), ("GET", "/engine_metrics"), ("GET", "/debug/decisions"),
]  # fmt: skip
CONTROL_KEYS = (
    ControlPlaneKey(key_id="k1", name="Ops", role=KeyRole.ADMIN, secret="boss"),
    ControlPlaneKey(key_id="k2", name="Viewer", role=KeyRole.USER, secret="look"),
)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", OPEN)
async def test_open_endpoints_need_no_key(new_router: NewRouter, path: str) -> None:
    router = await new_router(api_keys=ApiKeys("s3cret", CONTROL_KEYS))
    assert (await router.client.get(path)).status_code in (200, 503)


@pytest.mark.parametrize(("method", "path"), LOCKED)
async def test_locked_endpoints_need_the_key(new_router: NewRouter, method: str, path: str) -> None:
    router = await new_router(api_keys=ApiKeys("s3cret"))
    for headers in ({}, bearer("wrong"), {"authorization": "Basic s3cret"}):
        answer = await router.client.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    answer = await router.client.request(method, path, headers=bearer("s3cret"))
    assert answer.status_code != 401


@pytest.mark.parametrize(("method", "path"), LOCKED)
async def test_control_plane_keys_replace_the_key_for_the_control_plane(
    new_router: NewRouter, method: str, path: str
) -> None:
    router = await new_router(api_keys=ApiKeys("s3cret", CONTROL_KEYS))

    async def status(key: str) -> int:
        answer = await router.client.request(method, path, headers=bearer(key))
        return int(answer.status_code)

    if path.startswith(("/workers", "/flush_cache", "/debug")):
        is_look = method == "GET" and path != "/flush_cache"
        assert await status("s3cret") == 401
        assert await status("boss") not in (401, 403)
        assert (await status("look") == 403) is not is_look
    else:
        assert await status("s3cret") not in (401, 403)
        assert await status("boss") == 401


async def test_forbidden_names_what_is_missing(new_router: NewRouter) -> None:
    router = await new_router(api_keys=ApiKeys(None, CONTROL_KEYS))
    answer = await router.client.post("/workers", headers=bearer("look"))
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "the key 'k2' has role user; this needs admin"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), "https://a.example", "*"),
        (("https://a.example",), "https://a.example", "https://a.example"),
        (("https://a.example",), "https://b.example", None),
    ],
)
async def test_cors(
    new_router: NewRouter, origins: tuple[str, ...], origin: str, allowed: str | None
) -> None:
    router = await new_router(cors_origins=origins, api_keys=ApiKeys("s3cret"))
    answer = await router.client.get("/health", headers={"origin": origin})
    assert answer.headers.get("access-control-allow-origin") == allowed
    preflight = await router.client.options(
        "/v1/chat/completions",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        },
    )
    assert (preflight.status_code == 200) is (allowed is not None)


@pytest.mark.parametrize("path", ["/", "/nope", "/v1/chat", "/docs", "/openapi.json", "/workers/"])
async def test_unknown_path(new_router: NewRouter, path: str) -> None:
    router = await new_router()
    answer = await router.client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert path in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_byte_path_endpoint_with_another_method(new_router: NewRouter, method: str) -> None:
    router = await new_router(post_paths=("/generate",))
    answer = await router.client.request(method, "/generate")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_control_endpoint_with_another_method(new_router: NewRouter) -> None:
    router = await new_router()
    answer = await router.client.post("/readiness")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


async def test_unexpected_exception_is_a_500_without_a_traceback(new_router: NewRouter) -> None:
    router = await new_router()

    async def crash() -> None:
        raise RuntimeError("inner secret")

    router.app.add_api_route("/crash", crash)

    answer = await router.client.get("/crash")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


async def test_bad_parameter_is_a_400_that_names_it(new_router: NewRouter) -> None:
    router = await new_router()

    async def typed(size: int = Query()) -> int:
        return size

    router.app.add_api_route("/typed", typed)

    answer = await router.client.get("/typed?size=x")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "size"
