"""A request is taken back from its workers and sent again, whatever it was doing there.

The scheduler is the test's own: it sends and recalls what the test says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from support.dispatching import ScriptedScheduler, decision
from support.engine import event
from support.inference import DONE
from support.mock_worker import RecordingWorker
from support.queueing import HFX, assert_empty, dispatcher, num_received
from support.raw_client import RawResponse
from support.router import RunningRouter, eventually, pd_flags, running_router
from support.script import SSE_TYPE, Ending, Script, Step, answer, stalled

from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import Dispatch, Recall


class Puppet(ScriptedScheduler):
    """Has its strings pulled by the test."""

    def __init__(self, router: RunningRouter) -> None:
        super().__init__()
        self._router = router
        self._dispatcher = dispatcher(router)
        self._dispatcher._scheduler = self

    @property
    def tickets(self) -> list[str]:
        """Of all requests that ever came, in order."""
        return [str(entry[1]) for entry in self.heard if entry[0] == "arrive"]

    async def until_arrived(self, num: int = 1) -> str:
        """Wait for the request of this number; return its ticket."""
        assert await eventually(lambda: len(self.tickets) >= num)
        return self.tickets[num - 1]

    def send(self, ticket: str, *workers: RecordingWorker) -> None:
        """Have a request sent to a worker, or to a prefill and a decode worker."""
        *prefill_ids, worker_id = [self._router.worker(worker).worker_id for worker in workers]
        self.next_actions.append(
            Dispatch(
                request_id=ticket,
                worker_id=worker_id,
                prefill_worker_id=prefill_ids[0] if prefill_ids else None,
                is_on_time=True,
                predicted_prefill_s=0.0,
                num_hit_tokens=0,
                priority=0,
                decision=decision(ticket, Reason.ON_TIME),
            )
        )
        self._dispatcher._decide_soon()

    def recall(self, ticket: str) -> None:
        """Have a request taken back."""
        self.next_actions.append(Recall(request_id=ticket, decision=decision(ticket, Reason.STUCK)))
        self._dispatcher._decide_soon()


@dataclass(slots=True)
class Stage:
    router: RunningRouter
    puppet: Puppet
    hung: list[RecordingWorker]
    """Answer nothing."""
    healthy: list[RecordingWorker]

    def ask(self, body: bytes = b'{"text":"hi"}') -> asyncio.Task[RawResponse]:
        return asyncio.create_task(self.router.post(body=body))

    async def until_stuck(self, ticket: str) -> None:
        """Send a request to the hung workers and wait until they have it."""
        self.puppet.send(ticket, *self.hung)
        for worker in self.hung:
            await worker.wait_requests(1, path="/generate")


@asynccontextmanager
async def staged(mode: str, *flags: str, **overrides: float) -> AsyncIterator[Stage]:
    roles = ("null",) if mode == "regular" else ("prefill", "decode")
    hung = [RecordingWorker(role=role) for role in roles]
    healthy = [RecordingWorker(role=role) for role in roles]
    for worker in hung:
        worker.queue(stalled(), path="/generate")
    async with _started([*hung, *healthy]):
        if mode == "regular":
            worker_flags = ["--worker-urls", hung[0].url, healthy[0].url]
        else:
            worker_flags = pd_flags([hung[0], healthy[0]], [hung[1], healthy[1]])
        async with running_router(*worker_flags, *HFX, *flags, **overrides) as router:
            yield Stage(router, Puppet(router), hung, healthy)
            assert_empty(router)


@asynccontextmanager
async def _started(workers: list[RecordingWorker]) -> AsyncIterator[None]:
    for worker in workers:
        await worker.start()
    try:
        yield
    finally:
        for worker in workers:
            await worker.stop()


BODIES: dict[str, bytes] = {
    "whole": b'{"text":"hi"}',
    "stream": b'{"text":"hi","stream":true}',
    "batch": b'{"text":["hi","ho"]}',
    "merged": b'{"text":"hi","return_logprob":true}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_others_serve_it(mode: str, body: bytes) -> None:
    async with staged(mode) as stage:
        answered = stage.ask(body)
        ticket = await stage.puppet.until_arrived()
        await stage.until_stuck(ticket)
        stage.puppet.recall(ticket)
        for worker in stage.hung:
            await worker.wait_disconnect(worker.requests_for("/generate")[0])
        assert not answered.done()
        stage.puppet.send(ticket, *stage.healthy)
        received = await answered
        assert received.status == 200
        assert received.is_complete
        assert [num_received(worker) for worker in stage.healthy] == [1] * len(stage.healthy)
        over = [entry for entry in stage.puppet.heard if entry[0] == "over"]
        assert [entry[1] for entry in over] == [ticket]
        assert not any(worker.num_failed for worker in stage.router.router.registry.workers)


async def test_both_workers_of_a_pair_are_told_and_the_next_pair_has_a_room_of_its_own() -> None:
    async with staged("pair") as stage:
        answered = stage.ask()
        ticket = await stage.puppet.until_arrived()
        await stage.until_stuck(ticket)
        stage.puppet.recall(ticket)
        stage.puppet.send(ticket, *stage.healthy)
        assert (await answered).status == 200
        first, second = (
            [worker.requests_for("/generate")[0].json() for worker in pair]
            for pair in (stage.hung, stage.healthy)
        )
        for worker in stage.hung:
            [aborted] = await worker.wait_requests(1, path="/abort_request")
            assert aborted.json()["rid"] == first[0]["rid"]
        for worker in stage.healthy:
            assert num_received(worker, "/abort_request") == 0
        assert first[0]["bootstrap_room"] == first[1]["bootstrap_room"]
        assert second[0]["bootstrap_room"] == second[1]["bootstrap_room"]
        assert first[0]["bootstrap_room"] != second[0]["bootstrap_room"]


async def test_a_decode_worker_that_has_answered_already_is_not_heard() -> None:
    """Of a merged answer, the decode worker's part may be there while the prefill's is not."""
    async with staged("pair") as stage:
        hung_prefill, _ = stage.hung
        healthy_prefill, healthy_decode = stage.healthy
        answered = stage.ask(BODIES["merged"])
        ticket = await stage.puppet.until_arrived()
        stage.puppet.send(ticket, hung_prefill, healthy_decode)
        await healthy_decode.wait_requests(1, path="/generate")
        worker = stage.router.worker(healthy_decode)
        assert await eventually(lambda: worker.num_inflight == 0)
        stage.puppet.recall(ticket)
        stage.puppet.send(ticket, healthy_prefill, healthy_decode)
        received = await answered
        assert received.status == 200
        assert received.is_complete
        assert received.body.count(b'"output_token_logprobs_length"') == 1


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_the_client_leaves_while_it_waits_again(mode: str) -> None:
    async with staged(mode) as stage:
        answered = stage.ask()
        ticket = await stage.puppet.until_arrived()
        await stage.until_stuck(ticket)
        stage.puppet.recall(ticket)
        for worker in stage.hung:
            await worker.wait_disconnect(worker.requests_for("/generate")[0])
        answered.cancel()
        assert await eventually(lambda: stage.puppet.heard[-1][:2] == ("over", ticket))
        assert [num_received(worker) for worker in stage.healthy] == [0] * len(stage.healthy)


async def test_its_time_runs_out_while_it_waits_again() -> None:
    async with staged("pair", request_timeout_secs=0.5) as stage:
        answered = stage.ask()
        ticket = await stage.puppet.until_arrived()
        await stage.until_stuck(ticket)
        stage.puppet.recall(ticket)
        assert (await answered).status == 504
        assert [num_received(worker) for worker in stage.healthy] == [0, 0]


def _in_pieces(gate: asyncio.Event) -> Script:
    head, first, last, end = answer(chunks=[b'{"text":"a', b'b"}']).steps
    return Script(steps=(head, first, Step(data=last.data, gate=gate), end), ending=Ending.KEEP)


def _as_stream(gate: asyncio.Event) -> Script:
    head, first, last, end = answer(headers=[SSE_TYPE], chunks=[event(1), DONE]).steps
    return Script(steps=(head, first, Step(data=last.data, gate=gate), end), ending=Ending.KEEP)


@pytest.mark.parametrize(
    ("body", "script", "events"),
    [
        (BODIES["stream"], _as_stream, ["prefill_over", "first_token"]),
        (BODIES["whole"], _in_pieces, ["prefill_over"]),
    ],
    ids=["stream", "whole answer in pieces"],
)
async def test_whose_answer_has_begun_is_not_to_be_recalled(
    body: bytes, script: Callable[[asyncio.Event], Script], events: list[str]
) -> None:
    """The first bytes say that the prompt is computed, though the prefill worker has not yet.

    Those of an answer that is no stream do not say when its first token came.
    """
    async with staged("pair") as stage:
        hung_prefill, _ = stage.hung
        _, healthy_decode = stage.healthy
        gate = asyncio.Event()
        healthy_decode.queue(script(gate), path="/generate")
        answered = stage.ask(body)
        ticket = await stage.puppet.until_arrived()
        stage.puppet.send(ticket, hung_prefill, healthy_decode)
        num_before = len(stage.puppet.heard)

        def told() -> list[object]:
            heard = stage.puppet.told_since(num_before)
            return [entry[0] for entry in heard if entry[0] != "report"]

        assert await eventually(lambda: told() == events), told()
        gate.set()
        assert (await answered).status == 200
        await hung_prefill.stop()  # or the router would wait for its answer for a while
