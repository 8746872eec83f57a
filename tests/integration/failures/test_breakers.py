"""What opens a worker's breaker, what never does, and how it closes again."""

import asyncio

import pytest
from support.mock_worker import RecordingWorker
from support.router import eventually, one_pair, one_worker, running_router
from support.script import Ending, answer, closed, stalled

SENSITIVE = ("--disable-retries", "--cb-failure-threshold", "3", "--disable-health-check")


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 501, 503, 504])
async def test_answers_never_open_a_breaker(status: int) -> None:
    async with one_worker(*SENSITIVE) as (router, worker):
        worker.queue(*[answer(status=status, body=b"{}")] * 4)
        for _ in range(4):
            assert (await router.post()).status == status
        assert router.open_breakers() == []
        assert (await router.post()).status == 200


@pytest.mark.parametrize("status", [400, 500, 503])
@pytest.mark.parametrize("failing", ["prefill", "decode"])
async def test_an_answer_of_one_leg_opens_neither_breaker(status: int, failing: str) -> None:
    async with one_pair(*SENSITIVE) as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        bad.queue(*[answer(status=status, body=b"{}")] * 4)
        good.respond = lambda request: stalled() if request.route == "/generate" else None
        for _ in range(4):
            assert (await router.post()).status == status
        good.respond = None
        assert router.open_breakers() == []
        assert (await router.post()).status == 200


@pytest.mark.parametrize("failing", ["prefill", "decode"])
async def test_lost_connections_open_the_breaker_of_their_own_worker(failing: str) -> None:
    async with one_pair(*SENSITIVE) as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        bad.queue(*[closed(Ending.RESET)] * 3)
        good.respond = lambda request: stalled() if request.route == "/generate" else None
        for _ in range(3):
            assert (await router.post()).status == 502
        assert router.open_breakers() == [failing]
        refused = await router.post()
        assert refused.status == 503
        assert refused.header("retry-after") is not None
        assert failing.encode() in refused.body
        assert len(bad.requests_for("/generate")) == 3


@pytest.mark.parametrize("body", [b"nonsense", b'{"stream":5}'])
async def test_a_clients_mistakes_reach_no_worker(body: bytes) -> None:
    async with one_worker(*SENSITIVE) as (router, worker):
        for _ in range(5):
            assert (await router.post("/generate", body)).status == 400
        assert router.worker(worker).num_failed == 0


async def test_clients_that_leave_open_no_breaker() -> None:
    async with one_worker(*SENSITIVE) as (router, worker):
        gate = asyncio.Event()
        worker.queue(*[answer(gate=gate)] * 4)
        for number in range(4):
            async with router.client() as client:
                await client.send(b"POST /generate HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
                requests = await worker.wait_requests(number + 1, path="/generate")
            await worker.wait_disconnect(requests[number])
        assert router.open_breakers() == []
        assert router.worker(worker).num_failed == 0


async def test_an_open_breaker_lets_a_trial_through_and_closes() -> None:
    flags = (*SENSITIVE, "--cb-success-threshold", "2")
    async with one_worker(*flags, cb_timeout_duration_secs=0.05) as (router, worker):
        worker.queue(*[closed(Ending.RESET)] * 3)
        for _ in range(3):
            await router.post()
        breaker = router.worker(worker).breaker
        assert breaker.state == "open"
        assert await eventually(lambda: breaker.state == "half_open")
        assert (await router.post()).status == 200
        assert breaker.state == "half_open"
        assert (await router.post()).status == 200
        assert breaker.state == "closed"


async def test_a_failed_trial_opens_it_again() -> None:
    async with one_worker(*SENSITIVE, cb_timeout_duration_secs=0.05) as (router, worker):
        worker.queue(*[closed(Ending.RESET)] * 4)
        for _ in range(3):
            await router.post()
        breaker = router.worker(worker).breaker
        assert await eventually(lambda: breaker.state == "half_open")
        assert (await router.post()).status == 502
        assert breaker.state == "open"
        assert (await router.post()).status == 503


async def test_a_disabled_breaker_stays_closed() -> None:
    flags = ("--disable-circuit-breaker", *SENSITIVE)
    async with one_worker(*flags) as (router, worker):
        worker.queue(*[closed(Ending.RESET)] * 5)
        for _ in range(5):
            assert (await router.post()).status == 502
        assert (await router.post()).status == 200


async def test_the_other_worker_takes_over() -> None:
    flags = ("--cb-failure-threshold", "1", "--disable-health-check")
    async with (
        RecordingWorker() as first,
        RecordingWorker() as second,
        running_router("--worker-urls", first.url, second.url, *flags) as router,
    ):
        await first.stop()
        assert [(await router.post()).status for _ in range(6)] == [200] * 6
        assert router.worker(first).num_failed == 1
        assert len(second.requests_for("/generate")) == 6
