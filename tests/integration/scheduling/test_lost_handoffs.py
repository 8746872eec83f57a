"""A hand-off gets lost: both workers of a pair wait for each other, and go on with others."""

import asyncio

from support.mock_worker import RecordingWorker
from support.queueing import HFX, assert_empty, dispatcher, num_received
from support.router import pd_flags, running_router
from support.script import stalled

from hfx_sgl.policy.scheduler.scheduler import Scheduler


async def test_the_request_is_sent_again_and_both_workers_are_told() -> None:
    async with (
        RecordingWorker(role="prefill") as prefill,
        RecordingWorker(role="decode") as decode,
        running_router(*pd_flags([prefill], [decode]), *HFX) as router,
    ):
        scheduler = dispatcher(router)._scheduler
        assert isinstance(scheduler, Scheduler)
        scheduler._passed_over._passed_over_s = 0.2  # instead of ten seconds
        for worker in (prefill, decode):
            worker.queue(stalled(), path="/generate")
        lost = asyncio.create_task(router.post(body=b'{"text":"lost"}'))
        for worker in (prefill, decode):
            await worker.wait_requests(1, path="/generate")
        assert (await router.post(body=b'{"text":"after it"}')).status == 200
        assert not lost.done()
        assert (await lost).status == 200
        for worker in (prefill, decode):
            first, _, again = [sent.json() for sent in worker.requests_for("/generate")]
            assert first["text"] == again["text"] == "lost"
            assert first["bootstrap_room"] != again["bootstrap_room"]
            [aborted] = await worker.wait_requests(1, path="/abort_request")
            assert aborted.json()["rid"] == first["rid"]
            assert num_received(worker, "/abort_request") == 1
        assert_empty(router)
