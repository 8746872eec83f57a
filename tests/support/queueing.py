"""Mock workers with room for one request at a time, behind a router with the scheduler.

Whoever comes second waits in the router, for as long as the test wants: nothing depends on time.
That a worker takes the next request when one is over shows that its room was given back.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hfx_router.scheduling.dispatcher import Dispatcher
from support.engine import EngineState
from support.mock_worker import RecordingWorker, Respond
from support.raw_client import RawResponse
from support.router import RunningRouter, eventually, pd_flags, running_router
from support.script import answer

HFX = ("--policy", "hfx")
BOTH_MODES = ("regular", "pair")
_ROOM_TOKENS = 100
"""Less than the first request is expected to need, so that there is none for a second."""


def narrow(role: str = "null", respond: Respond | None = None) -> RecordingWorker:
    """Return a worker with room for one request."""
    state = EngineState(disaggregation_mode=role, max_total_num_tokens=_ROOM_TOKENS)
    return RecordingWorker(state=state, respond=respond)


@asynccontextmanager
async def narrow_router(
    mode: str, *flags: str, **overrides: float
) -> AsyncIterator[tuple[RunningRouter, RecordingWorker]]:
    """Start a router in front of a `regular` worker or a `pair`, and return who answers."""
    if mode == "regular":
        async with (
            narrow() as worker,
            running_router("--worker-urls", worker.url, *HFX, *flags, **overrides) as router,
        ):
            yield router, worker
            assert_empty(router)
        return
    async with (
        RecordingWorker(role="prefill") as prefill,
        narrow("decode") as decode,
        running_router(*pd_flags([prefill], [decode]), *HFX, *flags, **overrides) as router,
    ):
        yield router, decode
        assert_empty(router)


def dispatcher(router: RunningRouter) -> Dispatcher:
    """Return the router's dispatcher."""
    desk = router.router.service.desk
    assert desk is not None
    return desk.dispatcher


def num_waiting(router: RunningRouter) -> int:
    """Return how many requests wait to be sent."""
    return len(dispatcher(router)._waiting)


async def until_waiting(router: RunningRouter, num: int) -> None:
    """Wait until so many requests wait to be sent."""
    assert await eventually(lambda: num_waiting(router) == num), num_waiting(router)


def assert_empty(router: RunningRouter) -> None:
    """Assert that the dispatcher holds nothing of any request."""
    assert (dispatcher(router)._applicants, dispatcher(router)._waiting) == ({}, set())


async def occupy(
    router: RunningRouter, worker: RecordingWorker
) -> tuple[asyncio.Task[RawResponse], asyncio.Event]:
    """Fill the worker with a request; it is answered when the event is set."""
    gate = asyncio.Event()
    num_before = len(worker.requests_for("/generate"))
    worker.queue(answer(body=b"{}", gate=gate), path="/generate")
    task = asyncio.create_task(router.post())
    await worker.wait_requests(num_before + 1, path="/generate")
    return task, gate


def error_of(received: RawResponse) -> dict[str, object]:
    """Return the error in an answer."""
    error = json.loads(received.body)["error"]
    assert isinstance(error, dict)
    return error


def num_received(worker: RecordingWorker, path: str = "/generate") -> int:
    """Return how many requests a worker got."""
    return len(worker.requests_for(path))
