"""One leg of a pair fails: the client hears of it at once, and nobody waits for the other leg."""

import asyncio
import json
from dataclasses import replace

import pytest
from support.engine import event
from support.mock_worker import RecordedRequest, RecordingWorker
from support.raw_client import RawResponse, request_bytes, sse_events
from support.router import eventually, one_pair, pd_flags, running_router
from support.script import SSE_TYPE, Ending, Script, answer, closed, cut_body, garbage, stalled

from hfx_sgl.types import Role

AT_ONCE_S = 0.5
BODY = b'{"text":"hi","rid":"the-request"}'
STREAM = b'{"text":"hi","rid":"the-request","stream":true}'

FAILURES: dict[str, tuple[Script, int]] = {
    "400": (answer(status=400, body=b'{"message":"from the worker"}'), 400),
    "429": (answer(status=429, body=b'{"message":"from the worker"}'), 429),
    "500": (answer(status=500, body=b'{"message":"from the worker"}'), 500),
    "503": (answer(status=503, body=b'{"message":"from the worker"}'), 503),
    "chunked 500": (answer(status=500, chunks=[b'{"message":', b'"from the worker"}']), 500),
    "reset": (closed(Ending.RESET), 502),
    "closed": (closed(), 502),
    "garbage": (garbage(), 502),
}


async def _answer_in_time(router_answer: "asyncio.Task[RawResponse]") -> RawResponse:
    async with asyncio.timeout(AT_ONCE_S):
        return await router_answer


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize("failing", ["prefill", "decode"])
@pytest.mark.parametrize(("failure", "status"), FAILURES.values(), ids=FAILURES.keys())
async def test_one_leg_fails_while_the_other_hangs(
    failure: Script, status: int, failing: str, body: bytes
) -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        bad.queue(failure)
        good.queue(stalled())
        received = await _answer_in_time(asyncio.create_task(router.post("/generate", body)))
        assert received.status == status
        if status == 502:
            error = json.loads(received.body)["error"]
            assert error["code"] == "kv_transfer_failed"
            assert failing in error["message"]
        else:
            assert json.loads(received.body) == {"message": "from the worker"}
        # The leg that still ran is told, by name, and its connection is closed.
        [aborted] = await good.wait_requests(1, path="/abort_request")
        assert aborted.json() == {"rid": "the-request", "abort_all": False}
        await good.wait_disconnect(good.requests_for("/generate")[0])
        assert bad.requests_for("/abort_request") == []
        # Each worker answers for itself alone.
        assert router.worker(good).breaker.consecutive_failures == 0
        assert router.worker(good).num_failed == 0
        assert router.worker(bad).num_failed == (1 if status == 502 else 0)


@pytest.mark.parametrize("failing", ["prefill", "decode"])
async def test_a_leg_that_cannot_be_reached(failing: str) -> None:
    async with (
        RecordingWorker(role="prefill") as prefill,
        RecordingWorker(role="decode") as decode,
        running_router(*pd_flags([prefill], [decode]), "--disable-retries") as router,
    ):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        await router.post()  # leaves connections, so that the good leg is sent before the bad fails
        good.queue(stalled())
        await bad.stop()
        received = await _answer_in_time(asyncio.create_task(router.post("/generate", BODY)))
        assert received.status == 502
        error = json.loads(received.body)["error"]
        assert error["code"] == "upstream_unavailable"
        assert "could not be reached" in error["message"]
        await good.wait_requests(1, path="/abort_request")
        assert router.worker(good).num_failed == 0


async def test_aborts_use_our_own_id_where_the_client_sent_none() -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        prefill.queue(answer(status=400))
        decode.queue(stalled())
        await router.post("/generate", b'{"text":"hi"}')
        [aborted] = await decode.wait_requests(1, path="/abort_request")
        assert aborted.json()["rid"] == decode.requests_for("/generate")[0].json()["rid"]
        assert len(aborted.json()["rid"]) == 32


@pytest.mark.parametrize(
    ("rid", "names"),
    [('"one"', ["one_0", "one_1", "one_2"]), ('["x","y","z"]', ["x", "y", "z"])],
)
async def test_every_part_of_a_batch_is_aborted(rid: str, names: list[str]) -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        prefill.queue(answer(status=400))
        decode.queue(stalled())
        await router.post("/generate", b'{"text":["a","b","c"],"rid":%b}' % rid.encode())
        aborted = await decode.wait_requests(3, path="/abort_request")
        assert [request.json()["rid"] for request in aborted] == names


async def test_a_worker_that_does_not_confirm_an_abort_holds_nobody_up() -> None:
    async with one_pair("--disable-retries", abort_timeout_secs=0.1) as (router, prefill, decode):
        prefill.queue(answer(status=400))
        decode.queue(stalled())
        decode.queue(stalled(), path="/abort_request")
        received = await _answer_in_time(asyncio.create_task(router.post("/generate", BODY)))
        assert received.status == 400
        await decode.wait_requests(1, path="/abort_request")


@pytest.mark.parametrize(
    "failure", [answer(status=500), closed(Ending.RESET)], ids=["500", "reset"]
)
async def test_a_decode_that_answers_is_not_disturbed_by_its_prefill(failure: Script) -> None:
    """Once the decode streams, the hand-off has happened, whatever becomes of the prefill."""
    prefill_fails, decode_goes_on = asyncio.Event(), asyncio.Event()

    async def fail_late(request: RecordedRequest) -> Script | None:
        if request.route != "/generate":
            return None
        await prefill_fails.wait()
        return failure

    async with one_pair() as (router, prefill, decode), router.client() as client:
        prefill.respond = fail_late
        head, first, *rest = answer(headers=[SSE_TYPE], chunks=[event(1), event(2)]).steps
        held = [replace(step, gate=decode_goes_on) for step in rest]
        decode.queue(Script(steps=(head, first, *held), ending=Ending.KEEP))
        await client.send(request_bytes("POST", "/generate", body=STREAM))
        received = await client.read_head()
        assert await client.next_chunk(received) == event(1)
        prefill_fails.set()
        assert await eventually(lambda: router.worker(prefill).num_inflight == 0)
        decode_goes_on.set()
        await client.read_rest(received)
        assert sse_events(received.body) == [b"1", b"2"]
        assert received.is_complete
        assert len(decode.requests_for("/generate")) == 1
        assert decode.requests_for("/abort_request") == []


async def test_a_decode_head_without_a_byte_of_a_body_is_no_answer_yet() -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        gate = asyncio.Event()
        prefill.queue(answer(status=500, body=b"{}", gate=gate))
        decode.queue(cut_body(answer(headers=[SSE_TYPE], chunks=[event(1)]), 0, Ending.STALL))
        asking = asyncio.create_task(router.post("/generate", STREAM))
        [sent] = await decode.wait_requests(1, path="/generate")
        answers = router.router.recorder.upstream_answers
        assert await eventually(lambda: answers[Role.DECODE, 200] == 1)
        gate.set()
        assert (await asking).status == 500
        await decode.wait_disconnect(sent)


@pytest.mark.parametrize("failing", ["prefill", "decode"])
async def test_an_error_answer_that_breaks_is_cut(failing: str) -> None:
    """Whichever leg's answer the client is reading, its end is the end of the request."""
    async with one_pair("--disable-retries") as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        bad.queue(cut_body(answer(status=400, body=b"x" * 100), 10))
        good.queue(stalled())
        received = await _answer_in_time(asyncio.create_task(router.post("/generate", BODY)))
        assert received.status == 400
        assert bytes(received.body) == b"x" * 10
        assert not received.is_complete
