"""Workers that die with requests in them. Each test kills servers of its own."""

import asyncio
import json
import signal

import aiohttp
import pytest
from support.ask import Answer, Json, get, post, stream, wait_busy, wait_idle
from support.fleet import Fleet

from hfx_sgl.types import Role

ENDLESS: Json = {
    "text": "the quick brown fox",
    "sampling_params": {"temperature": 0, "max_new_tokens": 3000, "ignore_eos": True},
}
SHORT: Json = {"text": "hello", "sampling_params": {"temperature": 0, "max_new_tokens": 4}}

NOTICED_WITHIN_S = 2.0


async def kill(fleet: Fleet, name: str) -> None:
    """End a server as a crash would. Stays in the thread that started it."""
    fleet.cluster.kill(name)


async def slow_down(url: str, step_s: float) -> None:
    answer = await post(url, "/slow_down", {"forward_sleep_time": step_s})
    assert answer.status == 200


async def begin(url: str, body: Json) -> asyncio.Task[Answer]:
    return asyncio.create_task(post(url, "/generate", body))


async def test_decode_dies_in_a_stream(fleet: Fleet) -> None:
    prefill, decode = fleet.add_server(Role.PREFILL), fleet.add_server(Role.DECODE)
    router = fleet.add_router([prefill, decode])
    events = []
    loop = asyncio.get_running_loop()
    killed_at_s = 0.0
    async for event in stream(router, "/generate", {**ENDLESS, "stream": True}):
        events.append(event)
        if len(events) == 3:
            await kill(fleet, decode.name)
            killed_at_s = loop.time()
    assert loop.time() - killed_at_s < NOTICED_WITHIN_S
    assert "[DONE]" not in events
    error = json.loads(events[-1])["error"]
    assert error["code"] == "kv_transfer_failed"
    assert (await get(router, "/workers")).body["workers"][0]["load"] == 0
    await wait_idle(prefill.url, 5.0)
    fleet.cluster.stop(prefill.name)


async def test_decode_dies_and_the_other_takes_over(fleet: Fleet) -> None:
    prefill = fleet.add_server(Role.PREFILL)
    victim, heir = fleet.add_server(Role.DECODE), fleet.add_server(Role.DECODE)
    router = fleet.add_router([prefill, victim, heir], "--policy", "round_robin")
    # Slow enough that the request is still in the victim when it dies.
    await slow_down(victim.url, 0.2)
    body = {**SHORT, "sampling_params": {"max_new_tokens": 40, "ignore_eos": True}}
    requests = [await begin(router, body) for _ in range(2)]  # one for each
    await wait_busy(victim.url)
    await kill(fleet, victim.name)
    for answer in await asyncio.gather(*requests):
        assert answer.status == 200, answer.body
        assert answer.body["meta_info"]["completion_tokens"] == 40
    for _ in range(4):
        answer = await post(router, "/generate", SHORT)
        assert answer.status == 200
    for server in (prefill, heir):
        await wait_idle(server.url, 5.0)
        fleet.cluster.stop(server.name)


async def test_prefill_dies_with_a_request_in_it(fleet: Fleet) -> None:
    victim, heir = fleet.add_server(Role.PREFILL), fleet.add_server(Role.PREFILL)
    decode = fleet.add_server(Role.DECODE)
    router = fleet.add_router([victim, heir, decode], "--policy", "round_robin")
    await slow_down(victim.url, 3.0)
    requests = [await begin(router, SHORT) for _ in range(2)]  # one for each
    await wait_busy(decode.url)  # the prefill reports nothing while it sleeps in its step
    loop = asyncio.get_running_loop()
    killed_at_s = loop.time()
    await kill(fleet, victim.name)
    for answer in await asyncio.gather(*requests):
        assert answer.status == 200, answer.body
    # The decode would wait 11 s and more for a dead prefill; the pair is ended at once.
    assert loop.time() - killed_at_s < NOTICED_WITHIN_S
    for _ in range(4):
        assert (await post(router, "/generate", SHORT)).status == 200
    for server in (heir, decode):
        await wait_idle(server.url, 5.0, counts_tokens=False)
        fleet.cluster.stop(server.name)


async def test_without_retries_a_dead_prefill_is_an_error_at_once(fleet: Fleet) -> None:
    prefill, decode = fleet.add_server(Role.PREFILL), fleet.add_server(Role.DECODE)
    router = fleet.add_router([prefill, decode], "--disable-retries")
    await slow_down(prefill.url, 3.0)
    request = await begin(router, SHORT)
    await wait_busy(decode.url)  # the prefill reports nothing while it sleeps in its step
    loop = asyncio.get_running_loop()
    killed_at_s = loop.time()
    await kill(fleet, prefill.name)
    answer = await request
    assert loop.time() - killed_at_s < NOTICED_WITHIN_S
    assert answer.status == 502
    assert answer.body["error"]["code"] == "kv_transfer_failed"
    await wait_idle(decode.url, 5.0, counts_tokens=False)
    readiness = await wait_unready(router)
    assert readiness.status == 503
    answer = await post(router, "/generate", SHORT)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    fleet.cluster.stop(decode.name)


async def wait_unready(router: str) -> Answer:
    """Wait until the health checks have found the death."""
    for _ in range(150):
        readiness = await get(router, "/readiness")
        if readiness.status == 503:
            return readiness
        await asyncio.sleep(0.1)
    pytest.fail("a dead worker is still counted as ready")


async def test_sigterm_lets_streams_finish(fleet: Fleet) -> None:
    unified = fleet.add_server(Role.REGULAR)
    router = fleet.add_router([unified])
    name = next(n for n, url in fleet.cluster.urls.items() if url == router)
    instance = fleet.cluster.instances[name]
    body = {**ENDLESS, "stream": True}
    body["sampling_params"] = {**body["sampling_params"], "max_new_tokens": 200}
    events = []
    async for event in stream(router, "/generate", body):
        events.append(event)
        if len(events) == 3:
            instance.spawner.terminate(name)
            await asyncio.sleep(0.3)
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(router, "/health")
    assert events[-1] == "[DONE]"
    assert len(events) > 100
    ended = fleet.cluster.poll(5.0)
    assert [one.plan.name for one in ended] == [name]
    assert instance.status == 0, signal.strsignal(-(instance.status or 0))
    fleet.cluster.stop(unified.name)
