"""What a real router tells of its decisions about requests to emulated workers."""

import asyncio
from typing import Any

import pytest
from support.ask import get
from support.emulators import MODEL, running_pair, running_worker, url_of
from support.queueing import narrow_router, occupy, until_waiting
from support.raw_client import fetch
from support.router import RunningRouter, free_port, one_worker, running_router
from support.script import answer

JSON = (b"content-type", b"application/json")
STREAM = b'{"model":"%b","prompt":"once upon a time","max_tokens":8,"stream":true}' % MODEL.encode()


async def ask(router: RunningRouter, request_id: bytes, *headers: tuple[bytes, bytes]) -> None:
    answer = await fetch(
        router.url,
        "POST",
        "/v1/completions",
        headers=[JSON, (b"x-request-id", request_id), *headers],
        body=STREAM,
    )
    assert answer.status == 200


async def decisions(router: RunningRouter, query: str = "") -> Any:
    answer = await get(router.url, f"/debug/decisions{query}")
    assert answer.status == 200
    return answer.body["decisions"]


async def test_a_request_is_found_by_the_id_that_its_client_knows() -> None:
    async with (
        running_worker() as worker,
        running_router("--policy", "hfx", "--worker-urls", url_of(worker)) as router,
    ):
        await ask(router, b"first", (b"x-slo-class", b"chat"), (b"x-slo-ttft-ms", b"2000"))
        await ask(router, b"second")
        await router.settled()
        second, first = await decisions(router)
        assert [second["request_id"], first["request_id"]] == ["second", "first"]
        assert await decisions(router, "?request_id=first") == [first]
        assert await decisions(router, "?class=chat&reason=on_time") == [first]
        assert first["class"] == "chat"
        assert first["worker"] == url_of(worker)
        assert first["explanation"].startswith(f"Sent to {url_of(worker)} after ")
        assert first["promised"] == {"ttft_ms": 2000.0, "tpot_ms": None, "e2e_ms": None}
        assert first["predicted"]["ttft_ms"] > 0
        actual = first["actual"]
        assert actual["status"] == 200
        assert actual["promise_kept"] is True
        assert 0 < actual["ttft_ms"] < 2000
        assert actual["tpot_ms"] > 0
        assert second["class"] == "none"
        assert second["actual"]["promise_kept"] is None


async def test_both_workers_of_a_pair_are_told() -> None:
    async with running_pair() as (prefill, decode):
        flags = (
            "--pd-disaggregation", "--prefill", url_of(prefill), "--decode", url_of(decode),
            "--policy", "hfx",
        )  # fmt: skip
        async with running_router(*flags) as router:
            await ask(router, b"paired")
            await router.settled()
            [shown] = await decisions(router)
            assert shown["prefill_worker"] == url_of(prefill)
            assert shown["worker"] == url_of(decode)


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (("--policy", "hfx"), 200),
        (("--policy", "hfx", "--debug-decisions", "0"), 404),
        (("--policy", "round_robin"), 404),
    ],
    ids=["hfx", "turned off", "another policy"],
)
async def test_there_is_something_to_tell_only_while_decisions_are_kept(
    flags: tuple[str, ...], status: int
) -> None:
    async with running_router(*flags) as router:
        assert (await get(router.url, "/debug/decisions")).status == status


async def test_an_attempt_that_failed_is_told_without_an_outcome() -> None:
    async with one_worker("--policy", "hfx") as (router, worker):
        worker.queue(answer(status=503))
        assert (await router.post(headers=[(b"x-request-id", b"twice")])).status == 200
        await router.settled()
        second, first = await decisions(router, "?request_id=twice")
        assert first["actual"] is None
        assert second["actual"]["status"] == 200


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_who_waits_is_shown_until_it_is_sent(mode: str) -> None:
    port = free_port()
    flags = ("--prometheus-host", "127.0.0.1", "--prometheus-port", str(port))

    async def scrape() -> list[str]:
        text = str((await get(f"http://127.0.0.1:{port}", "/metrics")).body)
        return [line for line in text.splitlines() if line.startswith("hfx_router_queue_requests")]

    async with narrow_router(mode, *flags, disable_prometheus=False) as (router, worker):
        running, may_answer = await occupy(router, worker)
        waiting = asyncio.create_task(router.post(headers=[(b"x-slo-class", b"chat")]))
        await until_waiting(router, 1)
        assert 'hfx_router_queue_requests{class="chat"} 1.0' in await scrape()
        may_answer.set()
        await asyncio.gather(running, waiting)
        assert 'hfx_router_queue_requests{class="chat"} 0.0' in await scrape()


async def test_only_the_last_are_kept() -> None:
    async with (
        running_worker() as worker,
        running_router(
            "--policy", "hfx", "--debug-decisions", "2", "--worker-urls", url_of(worker)
        ) as router,
    ):
        for request_id in (b"a", b"b", b"c"):
            await ask(router, request_id)
        assert [one["request_id"] for one in await decisions(router)] == ["c", "b"]


async def test_predictions_waits_and_reasons_are_counted() -> None:
    async with (
        running_worker() as worker,
        running_router("--policy", "hfx", "--worker-urls", url_of(worker)) as router,
    ):
        await ask(router, b"one", (b"x-slo-class", b"chat"), (b"x-slo-ttft-ms", b"2000"))
        await router.settled()
        scheduling = router.router.recorder.scheduling
        assert sum(scheduling.decisions.values()) == 1
        assert scheduling.queue_wait_s["chat"].num_observed == 1
        assert scheduling.slack_s["chat"].num_observed == 1
        assert scheduling.ttft_error_s.num_observed == 1
        assert scheduling.tpot_error_s.num_observed == 1
        assert scheduling.decide_s.num_observed >= 1
