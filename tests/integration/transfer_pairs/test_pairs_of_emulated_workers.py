"""A real router in front of emulated servers: which pairs it uses, and why not the others."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest
from support.ask import get
from support.emulators import FlatStepTimes, is_free, make_settings, running_worker, url_of
from support.router import RunningRouter, eventually, running_router

from hfx_sgl.emulator.worker import Worker
from hfx_sgl.types import Role

POLICIES = ["round_robin", "hfx"]
OFTEN = {
    "health_check_interval_secs": 0.1,
    "link_cooldown_secs": 0.3,
    "link_max_cooldown_secs": 0.6,
}
BODY = b'{"text":"hello there","sampling_params":{"max_new_tokens":3}}'
STREAM = b'{"text":"hello there","sampling_params":{"max_new_tokens":3},"stream":true}'


def flags(prefills: list[Worker], decodes: list[Worker]) -> list[str]:
    given = ["--pd-disaggregation"]
    for worker in prefills:
        given += ["--prefill", url_of(worker), str(worker.settings.bootstrap_port)]
    for worker in decodes:
        given += ["--decode", url_of(worker)]
    return given


@asynccontextmanager
async def pool(
    prefill_pages: list[int], decode_pages: list[int], *more: str, **overrides: Any
) -> AsyncIterator[tuple[RunningRouter, list[Worker], list[Worker]]]:
    """A router in front of emulated workers with these page sizes, one worker for each."""
    async with (
        _workers(Role.PREFILL, prefill_pages) as prefills,
        _workers(Role.DECODE, decode_pages) as decodes,
    ):
        settings = OFTEN | overrides
        async with running_router(*flags(prefills, decodes), *more, **settings) as router:
            yield router, prefills, decodes
        assert await eventually(lambda: all(map(is_free, [*prefills, *decodes])))


@asynccontextmanager
async def _workers(role: Role, page_sizes: list[int]) -> AsyncIterator[list[Worker]]:
    if not page_sizes:
        yield []
        return
    async with (
        running_worker(role, page_tokens=page_sizes[0]) as first,
        _workers(role, page_sizes[1:]) as others,
    ):
        yield [first, *others]


async def pairs(router: RunningRouter, query: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    """What /debug/pairs shows, by the URLs of prefill and decode worker."""
    answer = await get(router.url, f"/debug/pairs{query}")
    assert answer.status == 200
    return {(one["prefill"], one["decode"]): one for one in answer.body["pairs"]}


async def is_alive(worker: Worker) -> bool:
    """Whether anybody answers at a worker's address."""
    try:
        return (await get(url_of(worker), "/health")).status == 200
    except OSError:
        return False


def metrics(router: RunningRouter) -> str:
    return generate_latest(router.router._collectors).decode()


async def silence(prefill: Worker) -> None:
    """Take the prefill worker's bootstrap server away."""
    assert prefill._bootstrap is not None
    await prefill._bootstrap.stop()


async def speak(prefill: Worker) -> None:
    """Bring it back."""
    assert prefill._bootstrap is not None
    await prefill._bootstrap.start(prefill.settings.host, prefill.settings.bootstrap_port)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_decode_worker_with_other_pages_gets_nothing(policy: str) -> None:
    async with pool([1, 16], [1, 16, 1], "--policy", policy) as (router, prefills, decodes):
        answers = await asyncio.gather(*(router.post("/generate", BODY) for _ in range(20)))
        assert [one.status for one in answers] == [200] * 20
        shown = await pairs(router)
        assert len(shown) == 6
        for prefill in prefills:
            for decode in decodes:
                one = shown[url_of(prefill), url_of(decode)]
                p, d = (worker.settings.spec.page_tokens for worker in (prefill, decode))
                assert one["usable"] is (p == d)
                assert one["problem"] == (None if p == d else f"page_size: prefill {p}, decode {d}")
                if p != d:
                    assert one["link"] == "unknown", "nobody was sent there"
        assert [await is_alive(worker) for worker in decodes] == [True] * 3
        used = {key for key, one in shown.items() if one["link"] == "ok"}
        assert used
        text = metrics(router)
        assert 'hfx_transfer_links{state="incompatible"} 3.0' in text
        assert text.count('state="incompatible"} 1.0') == 3
        assert 'hfx_transfer_probes_total{outcome="reached"} 2.0' in text


@pytest.mark.parametrize("policy", POLICIES)
async def test_without_a_pair_that_fits_the_reason_is_the_answer(policy: str) -> None:
    async with pool([1], [16], "--policy", policy) as (router, _, _):
        async with asyncio.timeout(1.0):
            received = await router.post("/generate", BODY)
        assert received.status == 503
        error = json.loads(received.body)["error"]
        assert error["code"] == "no_usable_pair"
        assert "page_size: prefill 1, decode 16" in error["message"]
        assert (await get(router.url, "/readiness")).status == 503


@pytest.mark.parametrize("policy", POLICIES)
async def test_without_the_comparison_one_request_ends_the_decode_worker(policy: str) -> None:
    async with pool([1], [16], "--policy", policy, "--disable-pair-checks") as (
        router,
        (prefill,),
        (decode,),
    ):
        assert (await get(router.url, "/debug/pairs")).status == 404
        assert await is_alive(decode)
        assert (await router.post("/generate", BODY)).status >= 500
        assert not await is_alive(decode)
        assert await is_alive(prefill)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_prefill_worker_nobody_can_meet_is_left_out_until_it_can_be_met(
    policy: str,
) -> None:
    async with pool([1, 1], [1], "--policy", policy) as (router, (broken, sound), (decode,)):
        await silence(broken)
        down = (url_of(broken), url_of(decode))
        for _ in range(40):
            assert (await router.post("/generate", BODY)).status == 200, "another pair serves"
            if (await pairs(router))[down]["link"] == "down":
                break
        shown = (await pairs(router))[down]
        assert shown["usable"] is False
        assert "Decode handshake failed" in shown["reason"]
        assert shown["failures_in_a_row"] >= 3
        assert shown["tried_again_at"] > shown["since"]
        await speak(broken)

        async with asyncio.timeout(10.0):
            while (await pairs(router))[down]["link"] != "ok":
                assert (await router.post("/generate", BODY)).status == 200
        assert (await pairs(router))[url_of(sound), url_of(decode)]["link"] == "ok"
        assert 'hfx_transfer_link_changes_total{from="trial",to="ok"}' in metrics(router)


@pytest.mark.parametrize("policy", POLICIES)
async def test_the_only_pair_goes_down_and_one_request_at_a_time_tries_it(policy: str) -> None:
    slow = {"link_cooldown_secs": 1.0, "link_max_cooldown_secs": 1.0}
    async with pool([1], [1], "--policy", policy, "--disable-retries", **slow) as (
        router,
        (prefill,),
        (decode,),
    ):
        await silence(prefill)
        failed = [await router.post("/generate", BODY) for _ in range(3)]
        assert [one.status for one in failed] == [500] * 3
        refused = await router.post("/generate", BODY)
        assert refused.status == 503
        error = json.loads(refused.body)["error"]
        assert error["code"] == "no_usable_pair"
        assert "Decode handshake failed" in error["message"]
        assert dict(refused.headers)[b"retry-after"] == b"1"
        assert await eventually(lambda: router.router.pairs.has_due)
        await speak(prefill)
        decode.driver.set_extra_step_s(0.1)  # so that the others come during the trial
        answers = await asyncio.gather(*(router.post("/generate", BODY) for _ in range(5)))
        assert sorted(one.status for one in answers) == [200, 503, 503, 503, 503]
        decode.driver.set_extra_step_s(0.0)
        assert [(await router.post("/generate", BODY)).status for _ in range(3)] == [200] * 3


async def test_a_failed_hand_off_in_a_stream_counts_too() -> None:
    async with pool([1], [1], "--disable-retries") as (router, (prefill,), _):
        await silence(prefill)
        received = await router.post("/generate", STREAM)
        assert b"Decode handshake failed" in received.body
        assert router.router.pairs.counts()["suspect"] == 1
        await speak(prefill)
        assert (await router.post("/generate", STREAM)).status == 200
        assert router.router.pairs.counts()["ok"] == 1


async def test_a_stream_that_failed_frees_its_prefill_worker_at_once() -> None:
    async with pool([1], [1], "--disable-retries") as (router, (prefill,), _):
        await silence(prefill)
        assert b"Decode handshake failed" in (await router.post("/generate", STREAM)).body
        # The prefill worker waits for its decode worker, for minutes if nobody tells it.
        assert await eventually(lambda: is_free(prefill))


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_client_that_leaves_a_trial_leaves_it_to_the_next(policy: str) -> None:
    async with pool([1], [1], "--policy", policy, "--disable-retries") as (router, (p,), (d,)):
        await silence(p)
        for _ in range(3):
            await router.post("/generate", BODY)
        assert router.router.pairs.barred
        assert await eventually(lambda: router.router.pairs.has_due)
        await speak(p)
        d.stall(None)
        leaving = asyncio.create_task(router.post("/generate", BODY))
        assert await eventually(lambda: router.router.pairs.has_trials)
        leaving.cancel()
        assert await eventually(lambda: router.router.pairs.has_due)
        d.resume()
        assert (await router.post("/generate", BODY)).status == 200
        assert router.router.pairs.counts()["ok"] == 1


async def test_a_server_that_restarts_with_other_pages_is_found_out_before_it_is_used() -> None:
    async with pool([1], [1], health_failure_threshold=1, health_success_threshold=1) as (
        router,
        _,
        (decode,),
    ):
        assert (await router.post("/generate", BODY)).status == 200
        await decode.stop()
        assert await eventually(lambda: not router.router.registry.usable(Role.DECODE))
        port = decode.settings.port
        settings = make_settings(Role.DECODE, page_tokens=16)
        heir = Worker(replace(settings, port=port), FlatStepTimes())
        await heir.start()
        try:
            assert await eventually(lambda: bool(router.router.registry.usable(Role.DECODE)))
            async with asyncio.timeout(5.0):
                while "come back" in (answer := await _refusal(router)):
                    pass
            assert "page_size: prefill 1, decode 16" in answer
            assert is_free(heir)
        finally:
            await heir.stop()


async def _refusal(router: RunningRouter) -> str:
    received = await router.post("/generate", BODY)
    assert received.status == 503
    return str(json.loads(received.body)["error"]["message"])


async def test_what_was_predicted_of_hand_offs_and_what_they_took_is_counted() -> None:
    async with pool([1], [1], "--policy", "hfx", load_poll_interval_secs=0.05) as (router, _, _):
        text = b'{"text":"%b","sampling_params":{"max_new_tokens":2}}' % (b"word " * 200)
        async with asyncio.timeout(10.0):
            while 'hfx_transfer_handoff_seconds_count{kind="observed"}' not in metrics(router):
                assert (await router.post("/generate", text)).status == 200
                await asyncio.sleep(0.05)
        assert 'hfx_transfer_handoff_seconds_count{kind="predicted"}' in metrics(router)


async def test_views_can_be_narrowed() -> None:
    async with pool([1, 16], [1], "--policy", "round_robin") as (router, (p, q), (d,)):
        await router.post("/generate", BODY)
        assert set(await pairs(router, "?usable=false")) == {(url_of(q), url_of(d))}
        assert set(await pairs(router, "?state=ok")) == {(url_of(p), url_of(d))}
        assert len(await pairs(router, "?limit=1")) == 1
        assert (await get(router.url, "/debug/pairs?state=fine")).status == 400
        counts = (await get(router.url, "/debug/pairs")).body["counts"]
        assert (counts["ok"], counts["incompatible"], counts["unknown"]) == (1, 1, 0)
