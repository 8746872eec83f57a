"""Requests that end before their time, and what they leave behind: nothing."""

import asyncio
import json

import aiohttp
import pytest
from support.ask import Json, post, stream
from support.emulators import is_free, running_worker, url_of
from support.router import eventually

from hfx_sgl.emulator.worker import Worker

ENDLESS: Json = {
    "text": "hello", "rid": "r", "sampling_params": {"max_new_tokens": 4000, "ignore_eos": True},
}  # fmt: skip


async def abort_soon(worker: Worker, body: Json) -> None:
    """Abort as soon as the worker is busy."""
    assert await eventually(lambda: not worker.driver.is_idle)
    assert (await post(url_of(worker), "/abort_request", body)).status == 200


@pytest.mark.parametrize("body", [{"rid": "r"}, {"abort_all": True}])
async def test_an_aborted_request_answers_with_what_it_has(worker: Worker, body: Json) -> None:
    request = asyncio.create_task(post(url_of(worker), "/generate", ENDLESS))
    await asyncio.sleep(0.05)
    await abort_soon(worker, body)
    answer = await request
    assert answer.status == 200
    assert answer.body["meta_info"]["finish_reason"]["type"] == "abort"
    assert 1 <= len(answer.body["output_ids"]) < 4000
    assert is_free(worker)


async def test_an_aborted_stream_ends_in_order(worker: Worker) -> None:
    events = []
    async for event in stream(url_of(worker), "/generate", {**ENDLESS, "stream": True}):
        events.append(event)
        if len(events) == 5:
            await post(url_of(worker), "/abort_request", {"rid": "r"})
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["meta_info"]["finish_reason"]["type"] == "abort"
    assert is_free(worker)


async def test_an_abort_in_the_queue(worker: Worker) -> None:
    async with running_worker(max_running_requests=1) as worker:
        url = url_of(worker)
        running = asyncio.create_task(post(url, "/generate", {**ENDLESS, "rid": "first"}))
        assert await eventually(lambda: worker.driver.load().num_running_reqs == 1)
        waiting = asyncio.create_task(post(url, "/generate", ENDLESS))
        assert await eventually(lambda: worker.driver.load().num_waiting_reqs == 1)
        await post(url, "/abort_request", {"rid": "r"})
        answer = await waiting
        assert (answer.status, answer.body["output_ids"]) == (200, [])
        assert answer.body["meta_info"]["finish_reason"]["message"] == "Abort in waiting queue"
        await post(url, "/abort_request", {"rid": "first"})
        await running


async def test_unknown_ids_are_no_error(worker: Worker) -> None:
    for body in ({"rid": "absent"}, {}, {"abort_all": True}):
        assert (await post(url_of(worker), "/abort_request", body)).status == 200


@pytest.mark.parametrize("streams", [True, False], ids=["stream", "whole"])
async def test_a_client_that_leaves_frees_the_engine(worker: Worker, streams: bool) -> None:
    async with aiohttp.ClientSession() as session:
        body = {**ENDLESS, "stream": streams, "text": ["a", "b", "c"]}
        request = asyncio.create_task(read(session, url_of(worker) + "/generate", body))
        assert await eventually(lambda: worker.driver.load().num_running_reqs == 3)
        request.cancel()
        assert await eventually(lambda: is_free(worker), within_s=1.0)


async def read(session: aiohttp.ClientSession, url: str, body: Json) -> bytes:
    async with session.post(url, json=body) as response:
        return await response.read()


async def test_a_client_that_reads_slowly_gets_everything_in_fewer_events(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hfx_sgl.emulator.api.call.MAX_BUFFERED_BYTES", -1)
    body = {**ENDLESS, "sampling_params": {"max_new_tokens": 30, "ignore_eos": True}}
    events = [e async for e in stream(url_of(worker), "/generate", {**body, "stream": True})]
    assert len(events) == 2
    assert len(json.loads(events[0])["output_ids"]) == 30
