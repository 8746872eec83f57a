import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from hfx_sgl.types import Role

StartWorker = Callable[..., Awaitable[Any]]
NewRouter = Callable[..., Awaitable[Any]]

UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


async def test_add_show_and_list(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    worker = await start_worker()
    answer = await router.client.post(
        "/workers",
        json={"url": worker.url, "priority": 7, "cost": 2.5, "labels": {"zone": "a"},
              "api_key": "s3cret", "tokenizer_path": "/t"},
    )  # fmt: skip
    body = answer.json()
    worker_id = body["worker_id"]
    assert answer.status_code == 202
    assert str(UUID(worker_id)) == worker_id
    assert answer.headers["location"] == f"/workers/{worker_id}"
    assert body == {
        "status": "accepted",
        "worker_id": worker_id,
        "url": worker.url,
        "location": f"/workers/{worker_id}",
        "message": "Worker addition queued for background processing; "
        "without effect: tokenizer_path",
    }
    await router.registrar.settled(worker_id)
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    assert shown == {
        "id": worker_id,
        "url": worker.url,
        "model_id": "tiny",
        "priority": 7,
        "cost": 2.5,
        "worker_type": "regular",
        "is_healthy": True,
        "load": 0,
        "connection_mode": "HTTP",
        "metadata": {
            "model_path": "/models/tiny",
            "served_model_name": "tiny",
            "tp_size": "1",
            "dp_size": "1",
            "disaggregation_mode": "null",
            "architectures": '["Llama"]',
            "version": "0.5.23",
            "zone": "a",
        },
        "disable_health_check": False,
    }
    listed = await router.client.get("/workers")
    assert listed.json() == {
        "workers": [shown],
        "total": 1,
        "stats": {"prefill_count": 0, "decode_count": 0, "regular_count": 1},
    }
    assert "s3cret" not in listed.text
    assert worker.requests("/server_info")[0].headers["authorization"] == "Bearer s3cret"


async def test_pd_workers_show_role_and_bootstrap_port(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_pd=True)
    prefill, decode = await start_worker("prefill"), await start_worker("decode")
    for worker, role in ((prefill, "prefill"), (decode, "decode")):
        answer = await router.client.post("/workers", json={"url": worker.url, "worker_type": role})
        await router.registrar.settled(answer.json()["worker_id"])
    body = (await router.client.get("/workers")).json()
    assert [each["worker_type"] for each in body["workers"]] == ["prefill", "decode"]
    assert body["workers"][0]["bootstrap_port"] == 21900
    assert "bootstrap_port" not in body["workers"][1]
    assert body["stats"] == {"prefill_count": 1, "decode_count": 1, "regular_count": 0}


async def test_unfinished_and_failed_registrations_are_shown(new_router: NewRouter) -> None:
    router = await new_router()
    answer = await router.client.post("/workers", json={"url": "http://127.0.0.1:1"})
    worker_id = answer.json()["worker_id"]
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    assert shown["job_status"]["status"] in ("pending", "processing")
    assert (shown["is_healthy"], shown["worker_type"]) == (False, "unknown")
    await router.registrar.settled(worker_id)
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    job = shown["job_status"]
    assert (job["job_type"], job["status"], job["worker_url"], job["timestamp"]) == (
        "AddWorker", "failed", "http://127.0.0.1:1", 1_700_000_000,
    )  # fmt: skip
    assert "not ready after 0.2 s" in job["message"]
    body = (await router.client.get("/workers")).json()
    assert (body["workers"], body["total"]) == ([], 0)
    assert body["jobs"] == [{"worker_id": worker_id, **job}]
    assert (await router.client.delete(f"/workers/{worker_id}")).status_code == 202
    assert (await router.client.get(f"/workers/{worker_id}")).status_code == 404


async def test_contradicting_role_fails_with_a_sentence(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_pd=True)
    worker = await start_worker("decode")
    answer = await router.client.post(
        "/workers", json={"url": worker.url, "worker_type": "prefill"}
    )
    job = await router.registrar.settled(answer.json()["worker_id"])
    assert job.state == "failed"
    assert "prefill" in job.message
    assert "--disaggregation-mode decode" in job.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{bad", None),
        (b"", None),
        (b"[]", None),
        (b'"x"', None),
        (b'{"url": "http://a:1", "cost": NaN}', "cost"),
        ({}, "url"),
        ({"url": 7}, "url"),
        ({"url": "not a url"}, "url"),
        ({"url": "https://a:1"}, "url"),
        ({"url": "grpc://a:1"}, "url"),
        ({"url": "http://a:1/v1"}, "url"),
        ({"url": "http://a:1", "worker_type": "cook"}, "worker_type"),
        ({"url": "http://a:1", "worker_type": "prefill"}, "worker_type"),
        ({"url": "http://a:1", "nope": 1}, "nope"),
        ({"url": "http://a:1", "priority": "7"}, "priority"),
        ({"url": "http://a:1", "priority": -1}, "priority"),
        ({"url": "http://a:1", "cost": -0.5}, "cost"),
        ({"url": "http://a:1", "labels": {"a": 1}}, "labels.a"),
        ({"url": "http://a:1", "bootstrap_port": 0}, "bootstrap_port"),
        ({"url": "http://a:1", "bootstrap_port": 65536}, "bootstrap_port"),
        ({"url": "http://a:1", "runtime_type": "vllm"}, "runtime_type"),
        ({"url": "http://a:1", "dp_aware": "yes"}, "dp_aware"),
        ({"url": "http://a:1", "health_check_interval_secs": 0}, "health_check_interval_secs"),
        ({"url": "http://a:1", "health_failure_threshold": 0}, "health_failure_threshold"),
    ],
)
async def test_bad_addition_is_refused_and_names_the_field(
    new_router: NewRouter, body: Any, param: str | None
) -> None:
    router = await new_router()
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = await router.client.post("/workers", **content)
    assert answer.status_code == 400
    refusal = answer.json()
    assert refusal["code"] == "BAD_REQUEST"
    assert refusal.get("param") == param
    assert refusal["error"]
    assert (param or "").split(".")[0] in refusal["error"]
    assert router.registrar.jobs.items() == []


async def test_regular_worker_has_no_place_in_pd(new_router: NewRouter) -> None:
    router = await new_router(is_pd=True)
    answer = await router.client.post("/workers", json={"url": "http://a:1"})
    assert answer.status_code == 400
    assert "needs prefill or decode workers" in answer.json()["error"]


async def test_oversized_body_is_refused(new_router: NewRouter) -> None:
    router = await new_router()
    answer = await router.client.post("/workers", content=b" " * 70_000)
    assert answer.status_code == 413
    assert "65536 bytes" in answer.json()["error"]


async def test_duplicate_is_refused(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    answer = await router.client.post("/workers", json={"url": worker.url})
    assert answer.status_code == 409
    assert answer.json() == {
        "error": f"a regular worker at {worker.url} is registered already",
        "code": "CONFLICT",
        "param": "url",
    }


async def test_update(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    worker_id = await router.add(await start_worker(), labels={"zone": "a"})
    answer = await router.client.put(
        f"/workers/{worker_id}",
        json={"priority": 9, "cost": 3.0, "labels": {"zone": "b"}, "api_key": "k",
              "health_check_interval_secs": 5, "health_check_timeout_secs": 2,
              "health_failure_threshold": 1, "disable_health_check": True},
    )  # fmt: skip
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "accepted",
        "worker_id": worker_id,
        "message": "Worker update queued for background processing",
    }
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    assert (shown["priority"], shown["cost"], shown["metadata"]["zone"]) == (9, 3.0, "b")
    assert shown["disable_health_check"] is True
    spec = router.registry.get(worker_id).spec
    assert (spec.api_key, spec.health.interval_s, spec.health.timeout_s) == ("k", 5, 2)
    await router.client.put(f"/workers/{worker_id}", json={"cost": 4.0})
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    assert (shown["priority"], shown["cost"]) == (9, 4.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [({"priority": "abc"}, "priority"), ({"url": "http://b:1"}, "url"),
     ({"worker_type": "decode"}, "worker_type"), ([], None)],
)  # fmt: skip
async def test_bad_update_is_refused(
    new_router: NewRouter, start_worker: StartWorker, body: Any, param: str | None
) -> None:
    router = await new_router()
    worker_id = await router.add(await start_worker())
    before = router.registry.get(worker_id).spec
    answer = await router.client.put(f"/workers/{worker_id}", json=body)
    assert answer.status_code == 400
    assert answer.json().get("param") == param
    assert router.registry.get(worker_id).spec == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_unknown_and_malformed_ids(new_router: NewRouter, method: str) -> None:
    router = await new_router()
    content = {"json": {"priority": 1}} if method == "PUT" else {}
    answer = await router.client.request(method, f"/workers/{UNKNOWN_ID}", **content)
    assert answer.status_code == 404
    assert answer.json() == {
        "error": f"Worker {UNKNOWN_ID} not found",
        "code": "WORKER_NOT_FOUND",
    }
    answer = await router.client.request(method, "/workers/not-a-uuid", **content)
    assert answer.status_code == 400
    assert answer.json()["code"] == "BAD_REQUEST"
    assert "'not-a-uuid' (expected UUID)" in answer.json()["error"]


async def test_wrong_methods(new_router: NewRouter) -> None:
    router = await new_router()
    answer = await router.client.patch(f"/workers/{UNKNOWN_ID}")
    assert answer.status_code == 405
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == {
        "GET", "HEAD", "PUT", "DELETE",
    }  # fmt: skip
    assert (await router.client.delete("/workers")).status_code == 405


async def test_idle_worker_disappears_at_once(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker_id = await router.add(await start_worker())
    answer = await router.client.delete(f"/workers/{worker_id}")
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "accepted",
        "worker_id": worker_id,
        "message": "Worker removal queued for background processing",
    }
    assert (await router.client.get(f"/workers/{worker_id}")).status_code == 404
    assert router.registry.usable(Role.REGULAR) == ()


async def test_busy_worker_drains(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    worker_id = await router.add(await start_worker())
    worker = router.registry.get(worker_id)
    worker.num_inflight = 1
    assert (await router.client.delete(f"/workers/{worker_id}")).status_code == 202
    assert router.registry.usable(Role.REGULAR) == ()
    shown = (await router.client.get(f"/workers/{worker_id}")).json()
    assert shown["is_draining"] is True
    assert (shown["job_status"]["job_type"], shown["load"]) == ("RemoveWorker", 1)
    worker.num_inflight = 0
    await asyncio.wait_for(router.registrar.settled(worker_id), 5)
    assert (await router.client.get(f"/workers/{worker_id}")).status_code == 404


async def test_dp_aware_addition_lists_the_ranks(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    worker.answers["/server_info"][1]["dp_size"] = 2
    answer = await router.client.post("/workers", json={"url": worker.url, "dp_aware": True})
    await router.registrar.settled(answer.json()["worker_id"])
    body = (await router.client.get("/workers")).json()
    assert [each["url"] for each in body["workers"]] == [worker.url + "@0", worker.url + "@1"]
    assert body["workers"][0]["id"] == answer.json()["worker_id"]


async def test_routers_dp_awareness_applies_to_additions(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_dp_aware=True)
    worker = await start_worker()
    worker.answers["/server_info"][1]["dp_size"] = 2
    answer = await router.client.post("/workers", json={"url": worker.url})
    await router.registrar.settled(answer.json()["worker_id"])
    assert len(router.registry.workers) == 2
