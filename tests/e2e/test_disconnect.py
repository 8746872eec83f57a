"""A client that leaves frees both workers; nobody goes on computing for it."""

import asyncio

import aiohttp
import pytest
from support.ask import Json, get, wait_busy, wait_idle
from support.fleet import Fleet

ENDLESS: Json = {
    "text": "the quick brown fox",
    "sampling_params": {"temperature": 0, "max_new_tokens": 3500, "ignore_eos": True},
}
"""Some ten seconds of decoding, so that a freed worker cannot be one that finished."""

FREED_WITHIN_S = 3.0


async def leave_when_busy(router_url: str, decode_urls: list[str], body: Json) -> None:
    """Send a request and hang up once a decode server works on it."""
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(_read(session, router_url, body))
        waits = [asyncio.create_task(wait_busy(url)) for url in decode_urls]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        assert not request.done()
        request.cancel()


async def _read(session: aiohttp.ClientSession, router_url: str, body: Json) -> None:
    async with session.post(router_url + "/generate", json=body) as response:
        await response.read()


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
async def test_leaving_frees_prefill_and_decode(fleet: Fleet, pd_url: str, streams: bool) -> None:
    decodes = [fleet.url("decode-0"), fleet.url("decode-1")]
    await leave_when_busy(pd_url, decodes, {**ENDLESS, "stream": streams})
    assert await wait_idle(pd_url, FREED_WITHIN_S) < FREED_WITHIN_S


async def test_leaving_a_batch_frees_all_of_it(fleet: Fleet, pd_url: str) -> None:
    decodes = [fleet.url("decode-0"), fleet.url("decode-1")]
    body = {**ENDLESS, "text": ["the quick", "brown fox", "lazy dog"]}
    await leave_when_busy(pd_url, decodes, body)
    await wait_idle(pd_url, FREED_WITHIN_S)


async def test_leaving_frees_a_unified_server(unified_url: str, direct_url: str) -> None:
    await leave_when_busy(unified_url, [direct_url], {**ENDLESS, "stream": True})
    await wait_idle(unified_url, FREED_WITHIN_S)


async def test_router_forgets_those_who_left(pd_url: str, fleet: Fleet) -> None:
    workers = (await get(pd_url, "/workers")).body["workers"]
    assert [worker["load"] for worker in workers] == [0, 0, 0, 0]
