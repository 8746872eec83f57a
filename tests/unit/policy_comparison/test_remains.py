"""What is held after a comparison is found in what routers and servers say of themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from policy_comparison.remains import what_remains
from support.engine import EngineState
from support.mock_worker import RecordedRequest, RecordingWorker
from support.script import Script, answer

from hfx_sgl.clock import WallClock
from hfx_sgl.launch.plan import InstancePlan

METRICS = b"""# HELP hfx_worker_inflight_requests x
hfx_router_inflight_requests 0.0
hfx_worker_inflight_requests{worker="http://a",worker_type="prefill"} 0.0
hfx_worker_inflight_requests{worker="http://b",worker_type="decode"} %b
"""


@asynccontextmanager
async def telling(metrics: bytes, num_running: int) -> AsyncIterator[RecordingWorker]:
    """One fake that is router and server at once."""

    def respond(request: RecordedRequest) -> Script | None:
        return answer(body=metrics) if request.route == "/metrics" else None

    state = EngineState(num_running_reqs=num_running)
    async with RecordingWorker(respond=respond, state=state) as worker:
        yield worker


async def remains(worker: RecordingWorker) -> dict[str, float]:
    server = InstancePlan(name="d0", role=None, argv=(), url=worker.url, log_path="")
    return await what_remains([server], worker.url, WallClock(), 0.0)


@pytest.mark.parametrize(
    ("value", "num_running", "expected"),
    [
        (b"0.0", 0, {}),
        (
            b"2.0",
            0,
            {'hfx_worker_inflight_requests{worker="http://b",worker_type="decode"}': 2.0},
        ),
        (b"0.0", 3, {"d0 num_running_reqs": 3}),
    ],
)
async def test_whatever_is_held_is_named(
    value: bytes, num_running: int, expected: dict[str, float]
) -> None:
    async with telling(METRICS % value, num_running) as worker:
        assert await remains(worker) == expected


async def test_a_router_that_does_not_tell_is_no_proof_of_anything() -> None:
    async with telling(b"other_metric 1\n", 0) as worker:
        assert await remains(worker) == {f"{worker.url} does not tell": 1.0}


async def test_it_waits_for_what_is_about_to_go() -> None:
    bodies = [METRICS % b"1.0", METRICS % b"0.0"]

    def respond(request: RecordedRequest) -> Script | None:
        return answer(body=bodies.pop(0)) if request.route == "/metrics" else None

    async with RecordingWorker(respond=respond) as worker:
        server = InstancePlan(name="d0", role=None, argv=(), url=worker.url, log_path="")
        assert await what_remains([server], worker.url, WallClock(), 5.0) == {}
    assert bodies == []
