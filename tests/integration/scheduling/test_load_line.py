"""Questions over a kept connection, to servers that behave and to those that do not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hfx_router.outbox import ImmediateOutbox
from hfx_router.scheduling.load_line import KEEP_ALIVE_S, MAX_ANSWER_BYTES, LoadLine
from hfx_router.workers.ask import Answer
from support.mock_worker import RecordingWorker
from support.script import Ending, Script, answer, closed, cut_body, dribbled, garbage, stalled

from hfx_sgl.clock import FakeClock

PATH = "/v1/loads?include=core,disagg"
GOOD = answer(body=b'{"loads":[]}')


async def ask(line: LoadLine, api_key: str | None = None) -> Answer:
    """Ask and wait for the only call back."""
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    line.ask(PATH, api_key, future.set_result)
    assert not future.done()
    async with asyncio.timeout(5):
        return await future


@asynccontextmanager
async def line_to(
    port: int, *, clock: FakeClock | None = None, connect_timeout_s: float = 5.0
) -> AsyncIterator[LoadLine]:
    line = LoadLine(
        "127.0.0.1",
        port,
        now_s=(clock or FakeClock()).now_s,
        outbox=ImmediateOutbox(),
        connect_timeout_s=connect_timeout_s,
    )
    try:
        yield line
    finally:
        line.close()


async def test_one_connection_carries_many_questions() -> None:
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(GOOD, GOOD, path="/v1/loads")
        first, second = await ask(line), await ask(line, "secret")
        assert first == second == Answer(status=200, body=b'{"loads":[]}')
        plain, keyed = worker.requests
        assert worker.num_connections == 1
        assert (plain.method, plain.path) == ("GET", PATH)
        assert plain.header("host") == f"127.0.0.1:{worker.port}".encode()
        assert plain.header("authorization") is None
        assert keyed.header("authorization") == b"Bearer secret"


async def test_a_connection_that_waited_for_long_is_not_used() -> None:
    clock = FakeClock()
    async with RecordingWorker() as worker, line_to(worker.port, clock=clock) as line:
        worker.queue(GOOD, GOOD, GOOD, path="/v1/loads")
        await ask(line)
        clock.advance(KEEP_ALIVE_S - 0.5)
        await ask(line)
        assert worker.num_connections == 1
        clock.advance(KEEP_ALIVE_S + 0.5)
        await ask(line)
        assert worker.num_connections == 2


async def test_a_connection_that_the_server_closes_is_replaced() -> None:
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        # The second question meets a connection that ends without a byte; it is asked again.
        worker.queue(GOOD, closed(), GOOD, path="/v1/loads")
        assert (await ask(line)).is_ok
        assert (await ask(line)).is_ok
        assert (worker.num_connections, len(worker.requests)) == (2, 3)


@pytest.mark.parametrize(
    "script",
    [
        answer(chunks=[b'{"loa', b'ds":[]}']),
        answer(body=b'{"loads":[]}', is_framed=False),
        dribbled(GOOD),
    ],
)
async def test_every_framing_is_read(script: Script) -> None:
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(script, GOOD, path="/v1/loads")
        assert (await ask(line)).body == b'{"loads":[]}'
        assert (await ask(line)).is_ok


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (closed(), "no answer (reset)"),
        (closed(Ending.RESET), "no answer (reset)"),
        (garbage(), "no answer (protocol)"),
        (cut_body(GOOD, 3), "no answer (reset)"),
        (answer(status=404, body=b"{}"), "answered 404"),
        (
            answer(chunks=[b"x" * 65_536] * (MAX_ANSWER_BYTES // 65_536 + 4)),
            f"the answer exceeds {MAX_ANSWER_BYTES} bytes",
        ),
    ],
)
async def test_failures_are_values_and_the_next_question_is_answered(
    script: Script, problem: str
) -> None:
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(script, GOOD, path="/v1/loads")
        failed = await ask(line)
        assert (failed.is_ok, failed.problem) == (False, problem)
        assert (await ask(line)).is_ok


async def test_an_answer_without_end_is_cut_off() -> None:
    endless = answer(chunks=[b"x" * 65_536] * 1000)
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(endless, path="/v1/loads")
        assert "exceeds" in (await ask(line)).problem
        await worker.wait_disconnect(worker.requests[0])


async def test_a_server_that_is_not_there() -> None:
    async with RecordingWorker() as worker:
        port = worker.port
    async with line_to(port) as line:
        assert (await ask(line)).problem == "no answer (connect)"


async def test_what_is_given_up_is_not_answered_and_leaves_no_connection() -> None:
    answers: list[Answer] = []
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(stalled(), GOOD, path="/v1/loads")
        line.ask(PATH, None, answers.append)
        line.give_up()  # while it connects
        line.ask(PATH, None, answers.append)
        [request] = await worker.wait_requests(1)
        line.give_up()
        await worker.wait_disconnect(request)
        assert (await ask(line)).is_ok
        assert answers == []


async def test_close_lets_go_of_the_connection() -> None:
    async with RecordingWorker() as worker, line_to(worker.port) as line:
        worker.queue(GOOD, path="/v1/loads")
        await ask(line)
        assert worker.num_open_connections == 1
        line.close()
        await worker.wait_idle()
