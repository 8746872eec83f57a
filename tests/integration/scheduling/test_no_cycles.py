"""Requests leave no cycles: what they held is free at once, and the collector has nothing to do."""

import gc
from collections.abc import Iterator

import pytest
from hfx_router.exchange.leg import Leg
from hfx_router.exchange.pd import PdExchange
from hfx_router.exchange.regular import RegularExchange
from hfx_router.scheduling.place import Place
from support.raw_client import RawClient, request_bytes
from support.router import RunningRouter, eventually, in_mode

NUM_REQUESTS = 20
CHAT = b'{"messages":[{"role":"user","content":"hi"}],"stream":%s,"max_tokens":3}'


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> list[str]:
    """Name what is left of requests in memory."""
    # Not by isinstance: that asks objects for their class, which some of other libraries resent.
    kinds = {RegularExchange, PdExchange, Leg, Place}
    return [type(found).__name__ for found in gc.get_objects() if type(found) in kinds]


async def ask_often(router: RunningRouter, body: bytes) -> None:
    """One request after the other on one connection."""
    async with router.client() as client:
        for _ in range(NUM_REQUESTS):
            await client.send(request_bytes("POST", "/v1/chat/completions", body=body))
            assert (await client.read_response()).status == 200


async def leave_often(router: RunningRouter) -> None:
    """Clients that go before the answer is there."""
    for _ in range(NUM_REQUESTS):
        async with RawClient.to(router.url) as client:
            await client.send(request_bytes("POST", "/v1/chat/completions", body=CHAT % b"true"))


@pytest.mark.parametrize("policy", ["hfx", "round_robin"])
@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_a_request_waits_for_the_collector(mode: str, policy: str) -> None:
    async with in_mode(mode, "--policy", policy) as (router, _):
        for is_stream in (b"false", b"true"):
            await ask_often(router, CHAT % is_stream)
        await leave_often(router)
        assert await router.settled() == {}
        await eventually(lambda: not alive())  # a task that was cancelled ends a turn later
        assert alive() == []
