"""Every path of the byte path, the paths beside it, and what browsers ask before they post."""

import json

import pytest
from hfx_router.exchange.endpoints import ENDPOINTS, PdSupport
from support.raw_client import fetch
from support.router import JSON, one_pair, one_worker

BODIES = {
    "/generate": b'{"text":"hi"}',
    "/v1/chat/completions": b'{"messages":[{"role":"user","content":"hi"}]}',
    "/v1/completions": b'{"prompt":"hi"}',
    "/v1/responses": b'{"input":"hi"}',
    "/v1/embeddings": b'{"input":["a","b"]}',
    "/rerank": b'{"query":"q","documents":["a"]}',
    "/v1/rerank": b'{"query":"q","documents":["a"]}',
    "/v1/score": b'{"items":["a"]}',
    "/v1/classify": b'{"input":"hi"}',
    "/tokenize": b'{"prompt":"hi"}',
    "/detokenize": b'{"tokens":[1]}',
    "/v1/tokenize": b'{"prompt":"hi"}',
    "/v1/detokenize": b'{"tokens":[1]}',
}
WORKER_PATHS = {"/rerank": "/v1/rerank"}


def test_the_table_names_every_endpoint() -> None:
    assert {endpoint.path for endpoint in ENDPOINTS} == BODIES.keys()


@pytest.mark.parametrize("path", BODIES)
async def test_endpoint_reaches_its_path_at_the_worker(path: str) -> None:
    async with one_worker() as (router, worker):
        received = await router.post(path, BODIES[path])
        assert received.status == 200, bytes(received.body)
        posts = [request for request in worker.requests if request.method == "POST"]
        assert [request.path for request in posts] == [WORKER_PATHS.get(path, path)]
        assert posts[0].body == BODIES[path]


@pytest.mark.parametrize(
    "path", [e.path for e in ENDPOINTS if e.pd is PdSupport.PAIR], ids=lambda path: path
)
async def test_endpoint_that_generates_reaches_both_legs(path: str) -> None:
    async with one_pair() as (router, prefill, decode):
        received = await router.post(path, BODIES[path])
        assert received.status == 200
        assert [r.path for r in prefill.requests if r.method == "POST"] == [path]
        assert [r.path for r in decode.requests if r.method == "POST"] == [path]


@pytest.mark.parametrize("path", [e.path for e in ENDPOINTS if e.pd is PdSupport.ANY])
async def test_tokenizing_takes_one_prefill_and_its_unpaired_body(path: str) -> None:
    async with one_pair() as (router, prefill, decode):
        received = await router.post(path, BODIES[path])
        assert received.status == 200
        assert [r.body for r in prefill.requests if r.method == "POST"] == [BODIES[path]]
        assert [r for r in decode.requests if r.method == "POST"] == []


@pytest.mark.parametrize("path", [e.path for e in ENDPOINTS if e.pd is PdSupport.NONE])
async def test_endpoint_without_a_hand_off_is_501_between_pairs(path: str) -> None:
    async with one_pair() as (router, prefill, decode):
        received = await router.post(path, BODIES[path])
        assert received.status == 501
        error = json.loads(received.body)["error"]
        assert (error["type"], error["code"]) == ("not_supported", "not_supported")
        assert path in error["message"]
        posts = [r for w in (prefill, decode) for r in w.requests if r.method == "POST"]
        assert posts == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions"])
async def test_other_methods_on_an_endpoint_are_405(method: str, path: str) -> None:
    async with one_worker() as (router, _):
        received = await fetch(router.url, method, path)
        assert received.status == 405
        assert received.header("allow") == b"POST"
        assert json.loads(received.body)["error"]["code"] == "method_not_allowed"
        assert (received.header("x-request-id") or b"").startswith(b"req-")


async def test_head_has_no_body_and_keeps_the_connection() -> None:
    async with one_worker() as (router, _), router.client() as client:
        for path, status in (("/generate", 405), ("/nowhere", 404)):
            await client.send(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
            received = await client.read_response(method="HEAD")
            assert received.status == status
            assert int(received.header("content-length") or b"0") > 0
        await client.send(b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize("path", ["/nowhere", "/generate/", "/v1/chat", "/", "//generate"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_paths_are_404(method: str, path: str) -> None:
    async with one_worker() as (router, worker):
        received = await fetch(router.url, method, path, headers=[JSON], body=b"{}")
        assert received.status == 404
        error = json.loads(received.body)["error"]
        assert error["code"] == "not_found"
        assert path in error["message"]
        assert [r for r in worker.requests if r.method == "POST"] == []


async def test_absolute_form_target() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(
            b"POST http://router.example:80/generate?x=1 HTTP/1.1\r\nhost: x\r\n"
            b"content-length: 2\r\n\r\n{}"
        )
        assert (await client.read_response()).status == 200
        assert worker.requests_for("/generate")[0].path == "/generate?x=1"


async def test_models_are_json() -> None:
    async with one_worker() as (router, _):
        models = await fetch(router.url, "GET", "/v1/models")
        one = await fetch(router.url, "GET", "/v1/models/mock-model")
        for received in (models, one):
            assert received.status == 200
            assert received.header("content-type") == b"application/json"
        assert json.loads(models.body)["data"] == [json.loads(one.body)]
        assert json.loads(one.body)["id"] == "mock-model"


# --- CORS ---


@pytest.mark.parametrize("path", ["/generate", "/v1/models"])
async def test_preflight(path: str) -> None:
    async with one_worker() as (router, worker):
        received = await fetch(
            router.url,
            "OPTIONS",
            path,
            headers=[
                (b"origin", b"http://app.example"),
                (b"access-control-request-method", b"POST"),
                (b"access-control-request-headers", b"content-type,authorization"),
            ],
        )
        assert received.status == 200
        assert received.header("access-control-allow-origin") == b"*"
        assert b"POST" in (received.header("access-control-allow-methods") or b"")
        allowed = received.header("access-control-allow-headers") or b""
        assert b"authorization" in allowed
        assert [r for r in worker.requests if r.method == "OPTIONS"] == []


@pytest.mark.parametrize(
    ("flags", "origin", "allowed"),
    [
        ((), b"http://any.example", b"*"),
        ((), None, None),
        (("--cors-allowed-origins", "http://a.example"), b"http://a.example", b"http://a.example"),
        (("--cors-allowed-origins", "http://a.example"), b"http://b.example", None),
    ],
)
@pytest.mark.parametrize(("body", "status"), [(b'{"text":"a"}', 200), (b"nonsense", 400)])
async def test_cors_headers_of_an_answer(
    flags: tuple[str, ...], origin: bytes | None, allowed: bytes | None, body: bytes, status: int
) -> None:
    async with one_worker(*flags) as (router, _):
        headers = [] if origin is None else [(b"origin", origin)]
        received = await router.post("/generate", body, headers=headers)
        assert received.status == status
        found = [v for k, v in received.headers if k.lower() == b"access-control-allow-origin"]
        assert found == ([] if allowed is None else [allowed])
        if allowed not in (None, b"*"):
            assert received.header("vary") == b"Origin"
