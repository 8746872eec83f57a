"""--request-timeout-secs: what the client, the workers and the breakers hear of it."""

import asyncio
import json
import math

import pytest
from support.engine import event
from support.raw_client import RawResponse, request_bytes, sse_events
from support.router import RunningRouter, in_mode, one_pair, one_worker
from support.script import SSE_TYPE, Ending, Script, answer, stalled

SOON = {"request_timeout_secs": 0.1}
NOT_COUNTED = ("--cb-failure-threshold", "1", "--disable-health-check")
STREAM = b'{"text":"hi","stream":true,"rid":"the-request"}'


def _check_504(received: RawResponse) -> None:
    assert received.status == 504
    error = json.loads(received.body)["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_timeout")
    assert "--request-timeout-secs" in error["message"]


def _breakers_are_untouched(router: RunningRouter) -> bool:
    workers = router.router.registry.workers
    return router.open_breakers() == [] and not any(worker.num_failed for worker in workers)


async def test_an_answer_that_does_not_come() -> None:
    async with one_worker(*NOT_COUNTED, **SOON) as (router, worker):
        worker.queue(stalled())
        _check_504(await router.post())
        [request] = worker.requests_for("/generate")
        await worker.wait_disconnect(request)
        assert _breakers_are_untouched(router)
        assert (await router.post()).status == 200


@pytest.mark.parametrize("hanging", ["prefill", "decode", "both"])
async def test_a_pair_that_does_not_answer_is_aborted(hanging: str) -> None:
    async with one_pair(*NOT_COUNTED, **SOON) as (router, prefill, decode):
        decode.queue(stalled())
        if hanging != "decode":
            prefill.queue(stalled())
        _check_504(await router.post("/generate", STREAM))
        await decode.wait_requests(1, path="/abort_request")
        if hanging != "decode":
            await prefill.wait_requests(1, path="/abort_request")
        else:
            assert prefill.requests_for("/abort_request") == []
        for worker in (prefill, decode):
            for aborted in worker.requests_for("/abort_request"):
                assert aborted.json() == {"rid": "the-request", "abort_all": False}
        assert _breakers_are_untouched(router)


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_a_stream_that_takes_too_long_ends_with_an_error_event(mode: str) -> None:
    async with in_mode(mode, *NOT_COUNTED, **SOON) as (router, workers):
        worker = workers[-1]
        head, first = answer(headers=[SSE_TYPE], chunks=[event(1)]).steps[:2]
        worker.queue(Script(steps=(head, first), ending=Ending.STALL))
        async with router.client() as client:
            await client.send(request_bytes("POST", "/generate", body=STREAM))
            received = await client.read_response()
            assert received.status == 200
            assert received.is_complete
            first_event, error = sse_events(received.body)
            assert first_event == b"1"
            assert json.loads(error)["error"]["code"] == "upstream_timeout"
            assert await client.is_closed()
        await worker.wait_disconnect(worker.requests_for("/generate")[0])
        assert _breakers_are_untouched(router)


async def test_a_counted_body_that_takes_too_long_is_cut() -> None:
    async with one_worker(*NOT_COUNTED, **SOON) as (router, worker):
        [whole] = answer(body=b"x" * 100).steps
        cut = type(whole)(data=whole.data[:-1])
        worker.queue(Script(steps=(cut,), ending=Ending.STALL))
        received = await router.post()
        assert received.status == 200
        assert not received.is_complete


async def test_the_time_covers_all_attempts() -> None:
    flags = ("--retry-initial-backoff-ms", "60000", "--retry-max-backoff-ms", "60000")
    async with one_worker(*flags, **SOON) as (router, worker):
        worker.queue(answer(status=503))
        _check_504(await router.post())
        assert len(worker.requests_for("/generate")) == 1


async def test_the_time_covers_the_queue() -> None:
    async with one_worker("--max-concurrent-requests", "1", **SOON) as (router, worker):
        gate = asyncio.Event()
        worker.queue(answer(body=b"{}", gate=gate))
        first = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        [exchange] = router.router.service.exchanges
        exchange.deadline_s = math.inf
        _check_504(await router.post())
        assert router.router.recorder.num_queued == 0
        gate.set()
        assert (await first).status == 200
        assert len(worker.requests_for("/generate")) == 1


async def test_a_connect_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_connect(*args: object, **kwargs: object) -> None:
        await asyncio.Event().wait()

    flags = ("--disable-retries", "--disable-health-check")
    async with one_worker(*flags, upstream_connect_timeout_secs=0.05) as (router, worker):
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "create_connection", never_connect)
            received = await router.post()
        assert received.status == 502
        assert "could not be reached" in json.loads(received.body)["error"]["message"]
        assert router.worker(worker).num_failed == 1
