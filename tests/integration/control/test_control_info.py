from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hfx_sgl.types import Role

StartWorker = Callable[..., Awaitable[Any]]
NewRouter = Callable[..., Awaitable[Any]]

INFO_PATHS = ["/server_info", "/get_server_info", "/model_info", "/get_model_info"]


def models(*ids: str) -> tuple[int, Any]:
    return 200, {"object": "list", "data": [{"id": each, "root": each} for each in ids]}


async def test_models_of_all_workers_once(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    first, second, dead = await start_worker(), await start_worker(), await start_worker()
    for worker in (first, second, dead):
        await router.add(worker)
    first.answers["/v1/models"] = models("a", "org/b")
    second.answers["/v1/models"] = models("org/b", "c")
    dead.answers["/v1/models"] = (500, "")
    answer = await router.client.get("/v1/models", headers={"authorization": "Bearer client"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "object": "list",
        "data": [{"id": each, "root": each} for each in ("a", "org/b", "c")],
    }
    assert first.requests("/v1/models")[0].headers["authorization"] == "Bearer client"
    one = await router.client.get("/v1/models/org/b")
    assert (one.status_code, one.json()) == (200, {"id": "org/b", "root": "org/b"})


async def test_unknown_model(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    await router.add(await start_worker())
    answer = await router.client.get("/v1/models/nope")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "the model 'nope' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", *INFO_PATHS])
async def test_no_usable_worker(new_router: NewRouter, path: str) -> None:
    router = await new_router()
    answer = await router.client.get(path)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_workers"
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tiny", *INFO_PATHS])
async def test_every_worker_fails(
    new_router: NewRouter, start_worker: StartWorker, path: str
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    worker.answers = {}
    for name in ("v1/models", "server_info", "model_info"):
        worker.answers["/" + name] = (500, "broken")
    answer = await router.client.get(path)
    assert answer.status_code == 502
    assert worker.url in answer.json()["error"]["message"]


async def test_workers_refusal_of_the_clients_key_is_passed_on(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    worker.answers["/v1/models"] = (401, {"error": "Unauthorized"})
    answer = await router.client.get("/v1/models")
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize("path", INFO_PATHS)
async def test_one_workers_info_is_relayed(
    new_router: NewRouter, start_worker: StartWorker, path: str
) -> None:
    router = await new_router()
    broken, good = await start_worker(), await start_worker()
    await router.add(broken)
    await router.add(good)
    plain = path.replace("get_", "")
    broken.answers[plain] = (500, "")
    answer = await router.client.get(path, headers={"authorization": "Bearer client"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json() == good.answers[plain][1]
    assert good.requests(plain)[0].headers["authorization"] == "Bearer client"


async def test_workers_own_key_is_used_when_the_client_sends_none(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker, api_key="k")
    await router.client.get("/server_info")
    assert worker.requests("/server_info")[0].headers["authorization"] == "Bearer k"


async def test_old_worker_is_asked_by_the_old_name(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    worker.answers["/get_server_info"] = worker.answers.pop("/server_info")
    await router.add(worker)
    answer = await router.client.get("/server_info")
    assert answer.json()["served_model_name"] == "tiny"


async def test_pd_server_info_holds_both_pools(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_pd=True)
    prefill = await start_worker("prefill")
    decodes = [await start_worker("decode") for _ in range(2)]
    await router.add(prefill, Role.PREFILL)
    for decode in decodes:
        await router.add(decode, Role.DECODE)
    body = (await router.client.get("/get_server_info")).json()
    assert [info["disaggregation_mode"] for info in body["prefill"]] == ["prefill"]
    assert body["decode"][0]["internal_states"] == [{"mode": "decode"}]
    assert body["internal_states"] == [{"mode": "decode"}] * 2
    assert "errors" not in body

    decodes[1].answers["/server_info"] = (200, "not json")
    prefill.answers["/server_info"] = (500, "")
    body = (await router.client.get("/server_info")).json()
    assert (body["prefill"], len(body["decode"])) == ([], 1)
    assert body["errors"] == {
        prefill.url: "answered 500",
        decodes[1].url: "the answer is not a JSON object",
    }
    decodes[0].answers["/server_info"] = (500, "")
    assert (await router.client.get("/server_info")).status_code == 502


async def test_pd_model_info_comes_from_a_prefill(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_pd=True)
    prefill, decode = await start_worker("prefill"), await start_worker("decode")
    await router.add(decode, Role.DECODE)
    await router.add(prefill, Role.PREFILL)
    assert (await router.client.get("/get_model_info")).status_code == 200
    assert len(prefill.requests("/model_info")) == 1
    assert decode.requests("/model_info") == []
