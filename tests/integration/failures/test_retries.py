"""Which failures are tried again, where, how often, and what the client sees of it: nothing."""

import json
import time

import pytest
from support.engine import event, sse_answer
from support.inference import DONE
from support.mock_worker import RecordedRequest, RecordingWorker
from support.router import RunningRouter, eventually, one_pair, one_worker, pd_flags, running_router
from support.script import Ending, Script, answer, closed, cut_body, cut_head, garbage, stalled

from hfx_sgl.types import Role

FAILURES: dict[str, Script] = {
    "408": answer(status=408),
    "429": answer(status=429),
    "502": answer(status=502),
    "503": answer(status=503),
    "504": answer(status=504),
    "chunked 503": answer(status=503, chunks=[b"no", b"t now"]),
    "reset": closed(Ending.RESET),
    "closed": closed(),
    "garbage": garbage(),
    "half a head": cut_head(answer()),
    "a head and no body": cut_body(answer(body=b"{}"), 0),
    "half a stream's head": cut_body(sse_answer([event(1)]), 0, Ending.RESET),
}


def _fail_once(failure: Script, *workers: RecordingWorker) -> None:
    """Let the first request at any of the workers fail."""
    pending = [failure]

    def respond(request: RecordedRequest) -> Script | None:
        return pending.pop() if pending and request.route == "/generate" else None

    for worker in workers:
        worker.respond = respond


def _num_posts(*workers: RecordingWorker) -> list[int]:
    return [len(worker.requests_for("/generate")) for worker in workers]


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_another_worker_is_tried(failure: Script) -> None:
    async with (
        RecordingWorker() as first,
        RecordingWorker() as second,
        running_router("--worker-urls", first.url, second.url) as router,
    ):
        _fail_once(failure, first, second)
        received = await router.post("/generate", b'{"text": "same"}')
        assert received.status == 200
        assert _num_posts(first, second) == [1, 1]
        bodies = [worker.requests_for("/generate")[0].body for worker in (first, second)]
        assert bodies == [b'{"text": "same"}'] * 2
        assert router.router.recorder.retries["/generate", Role.REGULAR] == 1
        ids = {w.requests_for("/generate")[0].header("x-request-id") for w in (first, second)}
        assert ids == {received.header("x-request-id")}


async def test_a_worker_that_refuses_connections() -> None:
    async with (
        RecordingWorker() as first,
        RecordingWorker() as second,
        running_router("--worker-urls", first.url, second.url) as router,
    ):
        await first.stop()
        for _ in range(2):
            assert (await router.post()).status == 200
        assert router.worker(first).num_failed >= 1


@pytest.mark.parametrize("policy", ["cache_aware", "manual"])
async def test_a_policy_that_would_choose_the_same_worker_has_to_choose_another(
    policy: str,
) -> None:
    async with (
        RecordingWorker() as first,
        RecordingWorker() as second,
        running_router("--worker-urls", first.url, second.url, "--policy", policy) as router,
    ):
        sticky = [(b"x-smg-routing-key", b"session-1")]
        body = b'{"text":"%b"}' % (b"the same long prompt " * 50)
        assert (await router.post("/generate", body, headers=sticky)).status == 200
        usual, other = (first, second) if first.requests_for("/generate") else (second, first)
        usual.queue(answer(status=503))
        assert (await router.post("/generate", body, headers=sticky)).status == 200
        assert _num_posts(usual, other) == [2, 1]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 501, 505])
async def test_a_workers_verdict_on_a_request_is_not_tried_again(status: int) -> None:
    async with one_worker() as (router, worker):
        worker.queue(answer(status=status, body=b"{}"))
        assert (await router.post()).status == status
        assert _num_posts(worker) == [1]


@pytest.mark.parametrize("num_attempts", [1, 3])
async def test_max_retries_is_the_number_of_attempts(num_attempts: int) -> None:
    async with one_worker("--retry-max-retries", str(num_attempts)) as (router, worker):
        body = b'{"object": "error"}'
        worker.queue(*[answer(status=503, headers=[(b"Retry-After", b"13")], body=body)] * 5)
        received = await router.post()
        # The worker's last answer, with the wait that it asks for.
        assert (received.status, bytes(received.body)) == (503, body)
        assert received.header("retry-after") == b"13"
        assert _num_posts(worker) == [num_attempts]


async def test_disabled_retries() -> None:
    async with one_worker("--disable-retries", "--retry-max-retries", "9") as (router, worker):
        worker.queue(answer(status=503))
        assert (await router.post()).status == 503
        assert _num_posts(worker) == [1]


@pytest.mark.parametrize("stream", [b"true", b"false"])
async def test_nothing_is_tried_again_after_the_first_byte(stream: bytes) -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(sse_answer([event(1), event(2)]), 20))
        received = await router.post("/generate", b'{"stream":%b}' % stream)
        assert received.status == 200
        assert not received.is_complete
        assert _num_posts(worker) == [1]


async def test_a_request_that_was_lost_twice_is_not_sent_a_third_time() -> None:
    """It may be what kills the workers."""
    async with one_worker("--retry-max-retries", "5") as (router, worker):
        worker.queue(*[closed(Ending.RESET)] * 5)
        received = await router.post()
        assert received.status == 502
        assert json.loads(received.body)["error"]["code"] == "upstream_unavailable"
        assert _num_posts(worker) == [2]


async def test_refused_connections_do_not_count_as_lost_requests() -> None:
    async with one_worker("--retry-max-retries", "4") as (router, worker):
        await worker.stop()
        assert (await router.post()).status == 502
        assert router.worker(worker).num_failed == 4


async def test_the_budget_bounds_retries() -> None:
    flags = ("--retry-budget-ratio", "0", "--retry-max-retries", "5")
    async with one_worker(*flags) as (router, worker):
        worker.respond = lambda request: (
            answer(status=503) if request.route == "/generate" else None
        )
        for _ in range(6):
            assert (await router.post()).status == 503
        assert _num_posts(worker) == [6 + 10]  # ten are granted to begin with, and no more
        exhausted = router.router.recorder.retries_exhausted["/generate", Role.REGULAR]
        assert exhausted == 6


async def test_the_wait_before_another_attempt() -> None:
    flags = ("--retry-initial-backoff-ms", "60", "--retry-max-backoff-ms", "60")
    async with one_worker(*flags, "--retry-jitter-factor", "0") as (router, worker):
        worker.queue(answer(status=503))
        began_s = time.monotonic()
        assert (await router.post()).status == 200
        assert time.monotonic() - began_s >= 0.055
        first, second = worker.requests_for("/generate")
        assert second.at_s - first.at_s >= 0.055


async def test_a_stream_whose_first_attempt_failed_is_measured_by_the_second() -> None:
    async with one_worker() as (router, worker):
        worker.queue(cut_body(sse_answer([event(1)]), 0, Ending.RESET), answer(body=b"{}"))
        assert (await router.post()).status == 200
        assert router.router.recorder.ttft_s == {}  # the answer was no stream
        worker.queue(answer(status=503), sse_answer([event(1), event(2), event(3), DONE]))
        received = await router.post("/generate", b'{"stream":true}')
        assert received.is_complete
        assert router.router.recorder.output_tokens["/generate"] == 3
        assert router.router.recorder.ttft_s["/generate"].num_observed == 1


# --- pairs ---


def _pairing(request: RecordedRequest) -> tuple[int, str]:
    fields = request.json()
    return fields["bootstrap_room"], fields["rid"]


PD_FAILURES = {**FAILURES, "500": answer(status=500)}


@pytest.mark.parametrize("failing", ["prefill", "decode"])
@pytest.mark.parametrize("failure", PD_FAILURES.values(), ids=PD_FAILURES.keys())
async def test_a_pair_is_tried_again_with_a_fresh_room(failure: Script, failing: str) -> None:
    async with one_pair() as (router, prefill, decode):
        bad, good = (prefill, decode) if failing == "prefill" else (decode, prefill)

        async def fail_once(request: RecordedRequest) -> Script | None:
            if request.route != "/generate" or len(bad.requests_for("/generate")) > 1:
                return None
            await good.wait_requests(1, path="/generate")
            return failure

        bad.respond = fail_once
        good.queue(stalled())
        assert (await router.post()).status == 200
        tries = [
            [_pairing(request) for request in await worker.wait_requests(2, path="/generate")]
            for worker in (bad, good)
        ]
        assert tries[0] == tries[1]
        (first_room, first_rid), (second_room, second_rid) = tries[0]
        assert first_room != second_room
        assert first_rid != second_rid
        [aborted] = await good.wait_requests(1, path="/abort_request")
        assert aborted.json()["rid"] == first_rid


async def test_a_clients_rid_is_kept_over_attempts() -> None:
    async with one_pair() as (router, prefill, decode):
        decode.queue(answer(status=503))
        assert (await router.post("/generate", b'{"rid":"mine"}')).status == 200
        tries = [request.json() for request in decode.requests_for("/generate")]
        assert [fields["rid"] for fields in tries] == ["mine", "mine"]
        assert tries[0]["bootstrap_room"] != tries[1]["bootstrap_room"]
        assert len(prefill.requests_for("/generate")) in (1, 2)


async def test_only_the_failing_leg_changes_its_worker() -> None:
    async with (
        RecordingWorker(role="prefill") as prefill,
        RecordingWorker(role="decode") as first,
        RecordingWorker(role="decode") as second,
        running_router(*pd_flags([prefill], [first, second])) as router,
    ):
        _fail_once(answer(status=503), first, second)
        assert (await router.post()).status == 200
        assert _num_posts(first, second) == [1, 1]
        assert router.router.recorder.retries["/generate", Role.DECODE] == 1
        assert router.router.recorder.retries["/generate", Role.PREFILL] == 0


async def test_a_pair_that_loses_two_requests_gives_up() -> None:
    async with one_pair("--retry-max-retries", "5") as (router, _, decode):
        decode.queue(*[closed(Ending.RESET)] * 5)
        received = await router.post()
        assert received.status == 502
        assert json.loads(received.body)["error"]["code"] == "kv_transfer_failed"
        assert _num_posts(decode) == [2]


# --- kept-alive connections that the worker has closed ---


async def _warm(router: RunningRouter, *workers: RecordingWorker) -> None:
    """Leave one idle connection to every worker."""
    assert (await router.post()).status == 200
    await router.until_legs_are_over()
    assert _num_posts(*workers) == [1] * len(workers)


async def test_an_idle_connection_that_a_worker_closed_is_not_used() -> None:
    async with one_worker() as (router, worker):
        await _warm(router, worker)
        for connection in list(worker._open.values()):
            connection.drop(is_reset=False)
        assert (await router.post()).status == 200
        assert _num_posts(worker) == [2]
        assert router.worker(worker).num_failed == 0


@pytest.mark.parametrize("ending", [Ending.CLOSE, Ending.RESET])
async def test_a_connection_that_closes_as_the_request_arrives(ending: Ending) -> None:
    async with one_worker("--disable-retries") as (router, worker):
        await _warm(router, worker)
        worker.queue(closed(ending))
        received = await router.post("/generate", b'{"text":"again"}')
        assert received.status == 200
        assert [r.body for r in worker.requests_for("/generate")[1:]] == [b'{"text":"again"}'] * 2
        assert router.worker(worker).num_failed == 0
        assert router.router.recorder.worker_errors == {}


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_leg_whose_connection_closes_as_the_request_arrives(role: str) -> None:
    async with one_pair("--disable-retries") as (router, prefill, decode):
        await _warm(router, prefill, decode)
        worker = prefill if role == "prefill" else decode
        worker.queue(closed(Ending.RESET))
        assert (await router.post()).status == 200
        await router.until_legs_are_over()
        assert router.worker(worker).num_failed == 0
        first, second = worker.requests_for("/generate")[1:]
        assert first.body == second.body


async def test_a_fresh_connection_that_closes_is_a_failure() -> None:
    async with one_worker("--disable-retries") as (router, worker):
        await _warm(router, worker)
        worker.queue(closed(), closed())  # the kept-alive one, and the one opened in its place
        assert (await router.post()).status == 502
        assert router.worker(worker).num_failed == 1


async def test_a_connection_that_closes_after_a_part_of_an_answer_is_a_failure() -> None:
    async with one_worker("--disable-retries") as (router, worker):
        await _warm(router, worker)
        worker.queue(cut_head(answer(body=b"{}")))
        assert (await router.post()).status == 502
        assert router.worker(worker).num_failed == 1


async def test_connections_that_lie_idle_for_long_are_closed_before_the_worker_does() -> None:
    async with one_worker(upstream_idle_timeout_secs=0.05) as (router, worker):
        await _warm(router, worker)
        [request] = worker.requests_for("/generate")
        await worker.wait_disconnect(request)
        [pool] = router.router.service._pools.values()
        assert await eventually(lambda: pool.num_open == 0)
