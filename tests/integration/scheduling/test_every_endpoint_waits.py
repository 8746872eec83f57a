"""Whatever a model computes goes through the queue, in order of its promises."""

import asyncio

import pytest
from support.queueing import error_of, narrow_router, num_received, occupy, until_waiting

BODIES = {
    "/generate": b'{"text":"hi"}',
    "/v1/chat/completions": b'{"messages":[{"role":"user","content":"hi"}],"n":3}',
    "/v1/completions": b'{"prompt":["a","b"],"max_tokens":4}',
    "/v1/responses": b'{"input":"hi"}',
    "/v1/embeddings": b'{"input":["a","b"]}',
    "/rerank": b'{"query":"q","documents":["a","b"]}',
    "/v1/rerank": b'{"query":"q","documents":["a","b"]}',
    "/v1/score": b'{"query":"q","items":["a","b"]}',
    "/v1/classify": b'{"input":"hi"}',
}


@pytest.mark.parametrize("path", BODIES)
async def test_what_a_model_computes_waits_its_turn(path: str) -> None:
    async with narrow_router("regular") as (router, worker):
        first, gate = await occupy(router, worker)
        waiting = asyncio.create_task(router.post(path, BODIES[path]))
        await until_waiting(router, 1)
        gate.set()
        assert (await first).status == 200
        assert (await waiting).status == 200
        assert (await router.post()).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"hi","stream":true}',
        b'{"text":["a","b"]}',
        b'{"text":["a","b"],"stream":true}',
        b'{"input_ids":[1,2,3]}',
        b'{"text":"hi","sampling_params":{"n":3}}',
    ],
)
async def test_every_form_of_a_request_waits_its_turn(body: bytes) -> None:
    async with narrow_router("regular") as (router, worker):
        first, gate = await occupy(router, worker)
        waiting = asyncio.create_task(router.post("/generate", body))
        await until_waiting(router, 1)
        gate.set()
        assert (await first).status == 200
        assert (await waiting).status == 200
        assert (await router.post()).status == 200


async def test_what_no_model_computes_does_not_wait() -> None:
    async with narrow_router("regular") as (router, worker):
        first, gate = await occupy(router, worker)
        assert (await router.post("/tokenize", b'{"prompt":"hi"}')).status == 200
        gate.set()
        assert (await first).status == 200


async def test_in_order_of_their_deadlines() -> None:
    async with narrow_router("regular") as (router, worker):
        first, gate = await occupy(router, worker)
        waiting = []
        for ttft_ms in (9000, 5000, 7000):
            headers = [(b"x-slo-ttft-ms", b"%d" % ttft_ms)]
            body = b'{"text":"%d"}' % ttft_ms
            waiting.append(asyncio.create_task(router.post(body=body, headers=headers)))
            await until_waiting(router, len(waiting))
        gate.set()
        for received in await asyncio.gather(first, *waiting):
            assert received.status == 200
        texts = [request.json()["text"] for request in worker.requests_for("/generate")]
        assert texts[1:] == ["5000", "7000", "9000"]


async def test_an_impossible_promise_is_refused_where_that_is_wanted() -> None:
    async with narrow_router("regular", "--on-infeasible", "reject") as (router, worker):
        hopeless = await router.post(headers=[(b"x-slo-ttft-ms", b"1")])
        assert hopeless.status == 429
        assert error_of(hopeless)["code"] == "slo_infeasible"
        assert hopeless.header("retry-after") is None, "no waiting would help"
        assert num_received(worker) == 0
        assert (await router.post(headers=[(b"x-slo-ttft-ms", b"5000")])).status == 200


async def test_a_promise_that_the_queue_makes_impossible_is_refused_for_a_while() -> None:
    async with narrow_router("regular", "--on-infeasible", "reject") as (router, worker):
        first, gate = await occupy(router, worker)
        refused = await router.post(headers=[(b"x-slo-ttft-ms", b"200")])
        assert refused.status == 429
        retry_after = refused.header("retry-after")
        assert retry_after is not None
        assert int(retry_after) >= 1
        assert num_received(worker) == 1
        gate.set()
        assert (await first).status == 200


async def test_an_impossible_promise_is_served_all_the_same_by_default() -> None:
    async with narrow_router("regular") as (router, _):
        assert (await router.post(headers=[(b"x-slo-ttft-ms", b"1")])).status == 200
