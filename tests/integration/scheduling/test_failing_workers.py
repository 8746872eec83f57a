"""Workers that fail or hang under the scheduler: others serve, and every reservation comes back."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from support.mock_worker import RecordedRequest, RecordingWorker, Respond
from support.queueing import BOTH_MODES, HFX, assert_empty, narrow, num_received
from support.raw_client import RawResponse
from support.router import RunningRouter, eventually, pd_flags, running_router
from support.script import Ending, Script, answer, closed, cut_body, stalled

FAILURES: dict[str, Script] = {
    "503": answer(status=503),
    "reset": closed(Ending.RESET),
    "a head and no body": cut_body(answer(body=b"{}"), 0),
}
SERVED_WITHIN_S = 15.0
NUM_WARMUP_REQUESTS = 40
PREFILL_S = 0.03
NUM_REQUESTS = 30


def once(script: Script) -> Respond:
    """Answer the first request so, and let the worker answer the others."""
    scripts = [script]

    def respond(request: RecordedRequest) -> Script | None:
        return scripts.pop() if scripts and request.route == "/generate" else None

    return respond


def always(script: Callable[[], Script]) -> Respond:
    """Answer every request so; the worker answers the probes."""
    return lambda request: script() if request.route == "/generate" else None


async def served_at_once(router: RunningRouter, workers: list[RecordingWorker]) -> bool:
    """Whether each of these narrow workers gets a request while all are under way."""
    gate = asyncio.Event()
    before = [num_received(worker) for worker in workers]
    for worker in workers:
        worker.queue(answer(body=b"{}", gate=gate), path="/generate")
    tasks = [asyncio.create_task(router.post()) for _ in workers]
    is_served = await eventually(
        lambda: [num_received(worker) for worker in workers] == [num + 1 for num in before]
    )
    gate.set()
    await asyncio.gather(*tasks)
    return is_served


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("mode", BOTH_MODES)
async def test_another_worker_takes_over(mode: str, failure: Script) -> None:
    role = "null" if mode == "regular" else "decode"
    respond = once(failure)  # whichever of the two is asked first
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(narrow(role, respond)) for _ in range(2)]
        if mode == "regular":
            flags = ["--worker-urls", *(worker.url for worker in workers)]
        else:
            prefill = await stack.enter_async_context(RecordingWorker(role="prefill"))
            flags = pd_flags([prefill], workers)
        router = await stack.enter_async_context(running_router(*flags, *HFX))
        received = await router.post()
        assert received.status == 200
        assert [num_received(worker) for worker in workers] == [1, 1]
        assert await served_at_once(router, workers), "the failed attempt holds no room"
        assert_empty(router)


async def test_another_prefill_worker_takes_over() -> None:
    respond = once(answer(status=503))
    async with (
        RecordingWorker(role="prefill", respond=respond) as first,
        RecordingWorker(role="prefill", respond=respond) as second,
        narrow("decode") as decode,
        running_router(*pd_flags([first, second], [decode]), *HFX) as router,
    ):
        assert (await router.post()).status == 200
        assert (num_received(first), num_received(second)) == (1, 1)
        assert (await router.post()).status == 200, "the decode worker's room is free again"
        assert_empty(router)


async def test_a_failed_request_gives_its_room_back() -> None:
    flags = ("--disable-retries", "--disable-circuit-breaker", "--disable-health-check")
    async with (
        narrow() as worker,
        running_router("--worker-urls", worker.url, *HFX, *flags) as router,
    ):
        for failure in FAILURES.values():
            worker.queue(failure, path="/generate")
            assert (await router.post()).status in (200, 502, 503)
        assert (await router.post()).status == 200
        assert_empty(router)


BODIES = {"whole": b'{"text":"hi"}', "stream": b'{"text":"hi","stream":true}'}


async def in_its_time(request: RecordedRequest) -> Script | None:
    """Take a moment for each prompt: what takes none teaches nothing."""
    if request.route == "/generate":
        await asyncio.sleep(PREFILL_S)
    return None


async def warm_up(router: RunningRouter, body: bytes, *workers: RecordingWorker) -> None:
    """Show the scheduler how fast the workers are: it must know what is too slow."""
    for worker in workers:
        await worker.wait_requests(1, path="/v1/loads")
    for _ in range(NUM_WARMUP_REQUESTS):
        assert (await router.post(body=body)).status == 200


async def all_but_stuck(
    router: RunningRouter, hung: RecordingWorker, body: bytes
) -> list[asyncio.Task[RawResponse]]:
    """Send many requests, wait for the answers, and return those that the hung worker has."""
    num_before = num_received(hung)
    tasks = [asyncio.create_task(router.post(body=body)) for _ in range(NUM_REQUESTS)]
    left = set(tasks)
    async with asyncio.timeout(SERVED_WITHIN_S):
        while len(left) > 1:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result().status for task in done] == [200] * len(done)
    assert num_received(hung) > num_before + 1, "others were behind it"
    return list(left)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_prefill_worker_that_hangs_holds_up_only_what_it_has_begun(body: bytes) -> None:
    async with (
        RecordingWorker(role="prefill", respond=in_its_time) as hung,
        RecordingWorker(role="prefill", respond=in_its_time) as healthy,
        RecordingWorker(role="decode", respond=_after(hung, healthy)) as decode,
        running_router(*pd_flags([hung, healthy], [decode]), *HFX) as router,
    ):
        await warm_up(router, body, hung, healthy)
        hung.respond = always(stalled)
        for task in await all_but_stuck(router, hung, body):
            for _ in range(5):
                assert (await router.post(body=body)).status == 200
            task.cancel()
        assert await eventually(lambda: not router.worker(hung).num_inflight)
        asked = num_received(hung) - len(
            [request for request in hung.requests_for("/generate") if request.is_answered]
        )
        await hung.wait_requests(asked, path="/abort_request")
        assert_empty(router)


async def test_a_worker_that_hangs_holds_up_only_the_stream_that_it_has_begun() -> None:
    body = BODIES["stream"]
    async with (
        RecordingWorker(respond=in_its_time) as hung,
        RecordingWorker(respond=in_its_time) as healthy,
        running_router("--worker-urls", hung.url, healthy.url, *HFX) as router,
    ):
        await warm_up(router, body, hung, healthy)
        hung.respond = always(stalled)
        for task in await all_but_stuck(router, hung, body):
            for _ in range(5):
                assert (await router.post(body=body)).status == 200
            task.cancel()
        assert await eventually(lambda: not router.worker(hung).num_inflight)
        assert_empty(router)


def _after(*prefills: RecordingWorker) -> Respond:
    """Answer as a decode worker does: only when the prompt has come from a prefill worker."""

    async def respond(request: RecordedRequest) -> Script | None:
        if request.route != "/generate":
            return None
        room = request.json()["bootstrap_room"]

        def has_come() -> bool:
            return any(
                other.is_answered and other.json()["bootstrap_room"] == room
                for prefill in prefills
                for other in prefill.requests_for("/generate")
            )

        await eventually(has_come, within_s=SERVED_WITHIN_S)
        return None

    return respond
