"""Many clients on kept-alive connections: afterwards no count and no reservation is left."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest
from support.emulators import MODEL, is_free, running_worker, url_of
from support.queueing import HFX, assert_empty, dispatcher
from support.raw_client import RawClient, request_bytes
from support.router import RunningRouter, eventually, running_router

from hfx_sgl.emulator.worker import Worker
from hfx_sgl.types import Role

NUM_CLIENTS = 24
NUM_REQUESTS = 12
SHAPES = {
    "unified": (Role.REGULAR, Role.REGULAR),
    "pd": (Role.PREFILL, Role.PREFILL, Role.DECODE, Role.DECODE),
}


def chat(rng: random.Random) -> bytes:
    """A request with a prompt and an answer of some length."""
    words = " ".join(str(rng.random()) for _ in range(rng.randint(1, 60)))
    stream = rng.choice(("true", "false"))
    body = '{"model":"%s","messages":[{"role":"user","content":"%s"}],"max_tokens":%d,"stream":%s}'
    headers = [(b"x-slo-ttft-ms", b"%d" % rng.choice((1, 50, 5000)))]
    return request_bytes(
        "POST",
        "/v1/chat/completions",
        headers=headers,
        body=(body % (MODEL, words, rng.randint(1, 20), stream)).encode(),
    )


async def play_client(router: RunningRouter, seed: int) -> int:
    """Send one request after the other, and now and then leave early; return how many are 200."""
    rng = random.Random(seed)
    num_ok = 0
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(RawClient.to(router.url))
        for _ in range(NUM_REQUESTS):
            await client.send(chat(rng))
            if rng.random() < 0.15:
                await asyncio.sleep(rng.random() * 0.03)
                client.close()
                client = await stack.enter_async_context(RawClient.to(router.url))
                continue
            received = await client.read_response()
            assert received.status == 200, received.body
            num_ok += 1
    return num_ok


def flags_of(workers: list[Worker]) -> list[str]:
    """Router flags for these workers."""
    names = {Role.PREFILL: "--prefill", Role.DECODE: "--decode", Role.REGULAR: "--worker-urls"}
    if workers[0].settings.spec.role is Role.REGULAR:
        return [names[Role.REGULAR], *map(url_of, workers)]
    pairs = [(names[worker.settings.spec.role], url_of(worker)) for worker in workers]
    return ["--pd-disaggregation", *(word for pair in pairs for word in pair)]


@pytest.mark.parametrize("shape", SHAPES)
async def test_nothing_is_left_of_many_requests(shape: str) -> None:
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(running_worker(role, kv_capacity_tokens=8192))
            for role in SHAPES[shape]
        ]
        router = await stack.enter_async_context(running_router(*flags_of(workers), *HFX))
        num_ok = await asyncio.gather(*(play_client(router, seed) for seed in range(NUM_CLIENTS)))
        assert sum(num_ok) > NUM_CLIENTS * NUM_REQUESTS / 2
        assert await router.settled() == {}
        assert [worker.num_inflight for worker in router.router.registry.workers] == [0] * len(
            workers
        )
        assert await eventually(lambda: all(map(is_free, workers)))
        assert_empty(router)
        assert dispatcher(router)._alarm is None, "nothing is left to decide about"
