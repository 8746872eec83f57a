"""Flush, loads and merged metrics: what an operator asks of all workers at once."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hfx_router.control.engine_metrics import merge_pages

from hfx_sgl.types import Role

StartWorker = Callable[..., Awaitable[Any]]
NewRouter = Callable[..., Awaitable[Any]]

NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_flush_reaches_every_worker(
    new_router: NewRouter, start_worker: StartWorker, method: str
) -> None:
    router = await new_router()
    workers = [await start_worker() for _ in range(2)]
    ids = [await router.add(worker, api_key="k") for worker in workers]
    for _ in range(3):  # an unhealthy worker has a cache as well
        router.registry.record_check(router.registry.get(ids[0]), False)
    answer = await router.client.request(
        method, "/flush_cache?timeout=3", headers={"authorization": "Bearer admin"}
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "success",
        "message": "Successfully flushed cache on all 2 HTTP workers",
        "workers_flushed": 2,
        "total_http_workers": 2,
        "total_workers": 2,
    }
    for worker in workers:
        (request,) = worker.requests("/flush_cache")
        assert (request.method, request.query_string) == ("POST", "timeout=3")
        assert request.headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(("num_bad", "status"), [(1, "partial_success"), (2, "failed")])
async def test_flush_that_fails_somewhere_names_the_worker(
    new_router: NewRouter, start_worker: StartWorker, num_bad: int, status: str
) -> None:
    router = await new_router()
    workers = [await start_worker() for _ in range(2)]
    for worker in workers:
        await router.add(worker)
    for worker in workers[:num_bad]:
        worker.answers["/flush_cache"] = (400, "busy")
    answer = await router.client.post("/flush_cache")
    assert answer.status_code == 502
    body = answer.json()
    assert (body["status"], body["workers_flushed"]) == (status, 2 - num_bad)
    assert body["successful"] == [worker.url for worker in workers[num_bad:]]
    assert body["failed"] == [
        {"worker": worker.url, "error": "answered 400"} for worker in workers[:num_bad]
    ]


@pytest.mark.parametrize("path", ["/get_loads", "/v1/loads"])
async def test_loads_of_all_workers(
    new_router: NewRouter, start_worker: StartWorker, path: str
) -> None:
    router = await new_router(is_pd=True)
    prefill, decode = await start_worker("prefill"), await start_worker("decode")
    prefill_id = await router.add(prefill, Role.PREFILL)
    decode_id = await router.add(decode, Role.DECODE)
    answer = await router.client.get(path + "?include=core&dp_rank=0")
    assert answer.status_code == 200
    entry = {"dp_rank": 0, "num_running_reqs": 1, "num_total_tokens": 12}
    assert answer.json() == {
        "timestamp": "2023-11-14T22:13:20+00:00",
        "version": "0.5.23",
        "accelerator": "cpu",
        "num_accelerators": 2,
        "loads": [
            entry | {"worker": prefill.url, "worker_id": prefill_id, "worker_type": "prefill"},
            entry | {"worker": decode.url, "worker_id": decode_id, "worker_type": "decode"},
        ],
        "workers": [
            {"worker": prefill.url, "load": 12},
            {"worker": decode.url, "load": 12},
        ],
        "errors": {},
    }
    assert prefill.requests("/v1/loads")[0].query_string == "include=core&dp_rank=0"


async def test_worker_without_loads_is_named(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    workers = [await start_worker() for _ in range(4)]
    for worker in workers:
        await router.add(worker)
    workers[1].answers["/v1/loads"] = (200, {"loads": "x"})
    workers[2].answers["/v1/loads"] = (404, "")
    workers[3].delay_s["/v1/loads"] = 2
    body = (await router.client.get("/v1/loads")).json()
    assert body["errors"] == {
        workers[1].url: "the answer has no list `loads`",
        workers[2].url: "answered 404",
        workers[3].url: "no answer within 0.5 s",
    }
    assert [each["load"] for each in body["workers"]] == [12, -1, -1, -1]
    assert len(body["loads"]) == 1


async def test_ranks_get_their_own_loads(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    worker = await start_worker()
    worker.answers["/server_info"][1]["dp_size"] = 2
    listed = [{"dp_rank": rank, "num_total_tokens": 10 * (rank + 1)} for rank in (0, 1)]
    worker.answers["/v1/loads"] = (200, {"loads": listed})
    await router.add(worker, dp_aware=True)
    body = (await router.client.get("/v1/loads")).json()
    assert body["workers"] == [
        {"worker": worker.url + "@0", "load": 10},
        {"worker": worker.url + "@1", "load": 20},
    ]
    assert [each["worker"] for each in body["loads"]] == [worker.url + "@0", worker.url + "@1"]
    ids = [each.worker_id for each in router.registry.workers]
    assert [each["worker_id"] for each in body["loads"]] == ids
    assert len(worker.requests("/v1/loads")) == 1


async def test_query_that_the_workers_refuse_is_the_clients_fault(
    new_router: NewRouter, start_worker: StartWorker
) -> None:
    router = await new_router()
    worker = await start_worker()
    await router.add(worker)
    worker.answers["/v1/loads"] = (400, {"detail": "unknown section: x"})
    answer = await router.client.get("/v1/loads?include=x")
    assert (answer.status_code, answer.json()) == (400, {"detail": "unknown section: x"})


async def test_loads_without_workers(new_router: NewRouter) -> None:
    router = await new_router()
    answer = await router.client.get("/get_loads")
    assert answer.status_code == 200
    assert (answer.json()["workers"], answer.json()["loads"]) == ([], [])


async def test_engine_metrics_are_merged(new_router: NewRouter, start_worker: StartWorker) -> None:
    router = await new_router()
    workers = [await start_worker() for _ in range(3)]
    for worker in workers:
        await router.add(worker)
    workers[1].answers["/metrics"] = (200, "what is this?{{{")
    workers[2].answers["/metrics"] = (404, "")
    answer = await router.client.get("/engine_metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    url = workers[0].url
    assert f'sglang_num_running_reqs{{model_name="tiny",worker_addr="{url}"}} 1.0' in lines
    assert f'sglang_prompt_tokens_total{{worker_addr="{url}"}} 7.0' in lines
    assert f"# {workers[2].url}: answered 404" in lines
    assert any(line.startswith(f"# {workers[1].url}: unreadable metrics") for line in lines)
    for worker in workers:
        worker.answers["/metrics"] = (404, "")
    assert (await router.client.get("/engine_metrics")).status_code == 502


async def test_engine_metrics_without_workers(new_router: NewRouter) -> None:
    router = await new_router()
    assert (await router.client.get("/engine_metrics")).status_code == 503


def test_merged_page_has_each_family_once() -> None:
    page = b"# HELP a:x some\n# TYPE a:x gauge\na:x 1\n# TYPE b histogram\n" + (
        b'b_bucket{le="+Inf"} 2\nb_sum 3\nb_count 2\n'
    )
    text, unreadable = merge_pages([("http://one", page), ("http://two", page)])
    assert unreadable == {}
    assert text.decode().splitlines() == [
        "# HELP a_x some",
        "# TYPE a_x gauge",
        'a_x{worker_addr="http://one"} 1.0',
        'a_x{worker_addr="http://two"} 1.0',
        "# HELP b ",
        "# TYPE b histogram",
        'b_bucket{le="+Inf",worker_addr="http://one"} 2.0',
        'b_sum{worker_addr="http://one"} 3.0',
        'b_count{worker_addr="http://one"} 2.0',
        'b_bucket{le="+Inf",worker_addr="http://two"} 2.0',
        'b_sum{worker_addr="http://two"} 3.0',
        'b_count{worker_addr="http://two"} 2.0',
    ]
