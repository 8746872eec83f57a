import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hfx_sgl.types import Role

StartWorker = Callable[..., Awaitable[Any]]
NewRouter = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize("path", ["/liveness", "/health", "/healthz"])
async def test_alive_even_without_workers(new_router: NewRouter, path: str) -> None:
    router = await new_router()
    answer = await router.client.get(path)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert (await router.client.head(path)).status_code == 200


@pytest.mark.parametrize("path", ["/readiness", "/readyz"])
async def test_ready_with_a_usable_worker(
    new_router: NewRouter, start_worker: StartWorker, path: str
) -> None:
    router = await new_router()
    answer = await router.client.get(path)
    assert answer.status_code == 503
    assert answer.json()["reason"].startswith("insufficient healthy workers: no usable regular")
    await router.add(await start_worker())
    answer = await router.client.get(path)
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "healthy_workers": 1,
        "total_workers": 1,
        "usable": {"regular": 1},
    }


async def test_pd_needs_both_pools(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router(is_pd=True)
    assert (
        "no usable prefill and no usable decode"
        in (await router.client.get("/readiness")).json()["reason"]
    )
    await router.add(await start_worker("prefill"), Role.PREFILL)
    answer = await router.client.get("/readiness")
    assert answer.status_code == 503
    assert answer.json()["reason"].endswith("no usable decode worker")
    await router.add(await start_worker("decode"), Role.DECODE)
    answer = await router.client.get("/readiness")
    assert answer.status_code == 200
    assert answer.json()["usable"] == {"prefill": 1, "decode": 1}


async def test_unhealthy_worker_makes_unready(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker_id = await router.add(await start_worker())
    for _ in range(3):
        router.registry.record_check(router.registry.get(worker_id), False)
    answer = await router.client.get("/readiness")
    assert answer.status_code == 503
    assert (answer.json()["healthy_workers"], answer.json()["total_workers"]) == (0, 1)


async def test_shutdown_makes_unready_and_not_dead(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    await router.add(await start_worker())
    router.state["is_draining"] = True
    answer = await router.client.get("/readiness")
    assert (answer.status_code, answer.json()["reason"]) == (503, "shutting down")
    assert (await router.client.get("/health")).status_code == 200


async def test_health_generate_names_each_worker(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    good, bad = await start_worker(), await start_worker()
    await router.add(good)
    await router.add(bad, api_key="k")
    bad.answers["/health_generate"] = (503, "")
    answer = await router.client.get("/health_generate")
    assert answer.status_code == 200
    assert answer.json()["workers"] == [
        {"worker": good.url, "worker_type": "regular", "ok": True, "error": None},
        {"worker": bad.url, "worker_type": "regular", "ok": False, "error": "answered 503"},
    ]
    assert bad.requests("/health_generate")[0].headers["authorization"] == "Bearer k"
    good.answers["/health_generate"] = (503, "")
    assert (await router.client.get("/health_generate")).status_code == 503


async def test_health_generate_needs_every_pool(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router(is_pd=True)
    prefill, decode = await start_worker("prefill"), await start_worker("decode")
    await router.add(prefill, Role.PREFILL)
    await router.add(decode, Role.DECODE)
    assert (await router.client.get("/health_generate")).status_code == 200
    decode.delay_s["/health_generate"] = 5
    answer = await router.client.get("/health_generate")
    assert answer.status_code == 503
    assert answer.json()["failed_roles"] == ["decode"]


async def test_health_generate_without_workers(new_router: NewRouter) -> None:
    router = await new_router()
    assert (await router.client.get("/health_generate")).status_code == 503


async def test_many_callers_make_a_worker_generate_once(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    worker.delay_s["/health_generate"] = 0.1
    answers = await asyncio.gather(
        *(router.client.get("/health_generate") for _ in range(20)), return_exceptions=False
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len(worker.requests("/health_generate")) == 1
    await router.client.get("/health_generate")
    assert len(worker.requests("/health_generate")) == 2


async def test_caller_that_leaves_does_not_stop_the_others(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    worker.delay_s["/health_generate"] = 0.1
    first = asyncio.create_task(router.client.get("/health_generate"))
    await asyncio.sleep(0.03)
    second = asyncio.create_task(router.client.get("/health_generate"))
    await asyncio.sleep(0.03)
    first.cancel()
    assert (await second).status_code == 200
    assert len(worker.requests("/health_generate")) == 1
