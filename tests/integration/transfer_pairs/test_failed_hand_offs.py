"""How a worker says that a hand-off failed, piece by piece, and who is told to stop."""

import asyncio
import json

import pytest
from support.engine import event
from support.mock_worker import RecordingWorker
from support.router import eventually, one_pair, pd_flags, running_router
from support.script import SSE_TYPE, Script, Step, answer, cut_body, garbage, stalled

from hfx_sgl.policy.pairs.link import LinkState

BODY = b'{"text":"hi","rid":"the-request"}'
STREAM = b'{"text":"hi","rid":"the-request","stream":true}'
FAILED = json.dumps(
    {
        "object": "error",
        "message": "Decode handshake failed for request rank=0 with exception KVTransferError"
        "(bootstrap_room=1): Could not fetch prefill parallel info",
        "code": 500,
    }
).encode()
OTHER = b'{"object":"error","message":"out of memory","code":500}'


def in_two(script: Script) -> Script:
    """The same answer, its body some time after its head."""
    (step,) = script.steps
    end = step.data.index(b"\r\n\r\n") + 4
    parts = (Step(data=step.data[:end]), Step(data=step.data[end:], delay_s=0.05))
    return Script(steps=parts, ending=script.ending)


@pytest.mark.parametrize("failing", ["prefill", "decode"])
@pytest.mark.parametrize("pieces", ["whole", "in two"])
@pytest.mark.parametrize(
    ("error", "state"), [(FAILED, LinkState.SUSPECT), (OTHER, LinkState.UNKNOWN)]
)
async def test_an_answer_500_says_what_failed(
    error: bytes, state: LinkState, pieces: str, failing: str
) -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)
        script = answer(status=500, body=error)
        bad.queue(script if pieces == "whole" else in_two(script))
        good.queue(stalled())
        received = await router.post("/generate", BODY)
        assert (received.status, bytes(received.body)) == (500, error)
        assert router.router.pairs.counts()[state.value] == 1
        [aborted] = await good.wait_requests(1, path="/abort_request")
        assert aborted.json()["rid"] == "the-request"


@pytest.mark.parametrize("pieces", ["whole", "in two"])
async def test_a_failed_hand_off_is_tried_again_on_two_other_workers(pieces: str) -> None:
    async with (
        RecordingWorker(role="prefill") as prefill_1,
        RecordingWorker(role="prefill") as prefill_2,
        RecordingWorker(role="decode") as decode_1,
        RecordingWorker(role="decode") as decode_2,
        running_router(
            *pd_flags([prefill_1, prefill_2], [decode_1, decode_2]), "--policy", "random"
        ) as router,
    ):
        script = answer(status=500, body=FAILED)
        for decode in (decode_1, decode_2):
            decode.queue(script if pieces == "whole" else in_two(script))
        assert (await router.post("/generate", BODY)).status in (200, 500)
        posts = [
            len(worker.requests_for("/generate"))
            for worker in (prefill_1, prefill_2, decode_1, decode_2)
        ]
        assert posts[2] >= 1
        assert posts[3] >= 1
        assert posts[0] >= 1
        assert posts[1] >= 1


async def test_an_error_that_breaks_off_is_a_lost_connection() -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        decode.queue(cut_body(answer(status=500, body=FAILED), 10))
        prefill.queue(stalled())
        received = await router.post("/generate", BODY)
        assert received.status == 502
        await prefill.wait_requests(1, path="/abort_request")


async def test_both_workers_may_fail_at_once() -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        for worker in (prefill, decode):
            worker.queue(in_two(answer(status=500, body=FAILED)))
        assert (await router.post("/generate", BODY)).status == 500
        assert router.router.pairs.counts()["suspect"] == 1
        key = next(iter(router.router.pairs.remarkable()))
        assert key.num_failures == 1


async def test_a_stream_that_is_an_error_frees_a_prefill_that_still_computes() -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        prefill.queue(stalled())
        error = event({"error": json.loads(FAILED)})
        decode.queue(answer(headers=[SSE_TYPE], chunks=[error, b"data: [DONE]\n\n"]))
        async with asyncio.timeout(1.0):
            received = await router.post("/generate", STREAM)
            assert received.status == 200
            [aborted] = await prefill.wait_requests(1, path="/abort_request")
        assert aborted.json()["rid"] == "the-request"
        await prefill.wait_disconnect(prefill.requests_for("/generate")[0])
        assert router.router.pairs.counts()["suspect"] == 1


async def test_a_stream_that_fails_after_its_beginning_says_nothing_of_the_link() -> None:
    async with one_pair("--disable-retries") as (router, _, decode):
        chunks = [*(event({"text": "a"}) for _ in range(4)), event({"error": json.loads(FAILED)})]
        decode.queue(answer(headers=[SSE_TYPE], chunks=chunks))
        assert (await router.post("/generate", STREAM)).status == 200
        assert router.router.pairs.counts()["ok"] == 1


async def test_a_request_whose_time_is_up_casts_doubt_and_is_aborted_on_both_sides() -> None:
    async with one_pair(request_timeout_secs=0.2) as (router, prefill, decode):
        prefill.queue(stalled())
        decode.queue(stalled())
        assert (await router.post("/generate", BODY)).status == 504
        assert router.router.pairs.counts()["suspect"] == 1
        assert router.router.pairs.barred == {}
        for worker in (prefill, decode):
            await worker.wait_requests(1, path="/abort_request")
        # A doubt is gone with the next success.
        assert (await router.post("/generate", BODY)).status == 200
        assert router.router.pairs.counts()["ok"] == 1


async def test_a_client_error_or_a_lost_connection_says_nothing_of_the_link() -> None:
    async with one_pair("--disable-retries") as (router, _, decode):
        for script in (answer(status=400, body=FAILED), garbage()):
            decode.queue(script)
            await router.post("/generate", BODY)
            assert router.router.pairs.counts()["unknown"] == 1
        assert await eventually(lambda: not router.leftovers())
