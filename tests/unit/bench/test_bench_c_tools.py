"""The benchmark's C programs: the load client against the recording worker, and the mock worker
against the raw client."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from bench.results import LoadReport, WorkerCounts
from bench.toolchain import compile_tool
from hfx_router.scheduling.load_answer import NoLoads, parse_loads
from support.mock_worker import RecordingWorker
from support.raw_client import RawClient, fetch, request_bytes, sse_events
from support.script import JSON_TYPE, SSE_TYPE, Ending, Script, answer, closed, cut_body, dribbled
from support.wire import encode_chunk

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]

PORT = 22_300
INTERVAL_US = 2000
BODY = b'{"messages":[],"stream":%s,"max_tokens":%d}'
WHOLE = answer(body=b'{"ok":1}')


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tools")


@pytest.fixture(scope="module")
def load_client(cache_dir: Path) -> Path:
    return compile_tool("load_client", cache_dir, print)


@pytest.fixture(scope="module")
def mock_worker(cache_dir: Path) -> Path:
    return compile_tool("mock_worker", cache_dir, print)


async def _load(program: Path, port: int, mode: str, *, num_tokens: int = 2) -> LoadReport:
    process = await asyncio.create_subprocess_exec(
        str(program), str(port), "2", "0.3", "0", mode, str(num_tokens), str(os.getpid()),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return msgspec.json.decode(output, type=LoadReport)


def _event(index: int) -> bytes:
    return b'data: {"i":%d,"ts":%d}\n\n' % (index, time.monotonic_ns())


def _stream(num_events: int = 2, *, has_done: bool = True, coding: bytes = b"chunked") -> Script:
    events = [_event(index) for index in range(num_events)]
    script = answer(
        headers=(SSE_TYPE,), chunks=[*events, b"data: [DONE]\n\n"] if has_done else events
    )
    if coding == b"chunked":
        return script
    body = b"".join([*events, b"data: [DONE]\n\n"])
    return answer(headers=(SSE_TYPE,), body=body)


@pytest.mark.parametrize(
    "script",
    [
        WHOLE,
        dribbled(WHOLE),
        answer(chunks=[b'{"ok"', b":1}"]),
        answer(headers=((b"X-MORE", b"a"), JSON_TYPE, (b"CONNECTION", b"Keep-Alive")),
               body=b'{"ok":1}'),
    ],
    ids=["plain", "dribbled", "chunked", "more headers"],
)  # fmt: skip
async def test_the_client_counts_whole_answers(load_client: Path, script: Script) -> None:
    async with RecordingWorker(respond=lambda request: script) as worker:
        load = await _load(load_client, worker.port, "plain")
        assert load.num_failed == load.num_incomplete == 0
        assert load.num_connections == worker.num_connections == 2
        assert 0 <= len(worker.requests) - load.num_requests <= 2
        assert load.latency_us is not None
        assert 0 < load.latency_us.p50 <= load.latency_us.p99 < 300_000
        assert worker.requests[0].json()["stream"] is False
        assert load.num_chunks == 0


async def test_the_client_follows_connection_close(load_client: Path) -> None:
    script = answer(
        headers=(JSON_TYPE, (b"Connection", b"close")), body=b'{"ok":1}', ending=Ending.CLOSE
    )
    async with RecordingWorker(respond=lambda request: script) as worker:
        load = await _load(load_client, worker.port, "plain")
        assert load.num_failed == load.num_incomplete == 0
        assert load.num_connections > load.num_requests > 2


@pytest.mark.parametrize(
    ("script", "field"),
    [
        (answer(status=503, body=b'{"ok":1}'), "num_non_200"),
        (closed(), "num_errors"),
        (closed(Ending.RESET), "num_errors"),
        (cut_body(WHOLE, 2), "num_errors"),
        (answer(body=b"[1]"), "num_incomplete"),
        (answer(body=b'{"ok":1}', is_framed=False), "num_errors"),
    ],
    ids=["503", "closed", "reset", "cut", "other body", "no framing"],
)
async def test_the_client_counts_what_is_broken(
    load_client: Path, script: Script, field: str
) -> None:
    async with RecordingWorker(respond=lambda request: script) as worker:
        load = await _load(load_client, worker.port, "plain")
        assert getattr(load, field) > 0


@pytest.mark.parametrize("coding", [b"chunked", b"length"])
async def test_the_client_measures_streams(load_client: Path, coding: bytes) -> None:
    async with RecordingWorker(respond=lambda request: _stream(coding=coding)) as worker:
        load = await _load(load_client, worker.port, "stream")
        assert load.num_failed == load.num_incomplete == 0
        assert abs(load.num_chunks - 2 * load.num_requests) <= 4
        assert load.delay_us is not None
        assert load.ttft_us is not None
        assert 0 < load.delay_us.p50 < 300_000
        assert worker.requests[0].json()["max_tokens"] == 2


async def test_the_client_reads_events_split_anywhere(load_client: Path) -> None:
    async with RecordingWorker(respond=lambda request: dribbled(_stream())) as worker:
        load = await _load(load_client, worker.port, "stream")
        assert load.num_failed == load.num_incomplete == 0
        assert load.num_chunks >= 2 * load.num_requests > 0


@pytest.mark.parametrize(
    "script", [_stream(1), _stream(3), _stream(has_done=False)], ids=["few", "many", "no end"]
)
async def test_a_stream_with_other_events_is_incomplete(load_client: Path, script: Script) -> None:
    async with RecordingWorker(respond=lambda request: script) as worker:
        assert (await _load(load_client, worker.port, "stream")).num_incomplete > 0


async def test_the_cpu_time_is_of_the_measured_process(load_client: Path) -> None:
    async with RecordingWorker(respond=lambda request: WHOLE) as worker:
        load = await _load(load_client, worker.port, "plain")
    assert 0 < load.cpu_s < 1


@asynccontextmanager
async def _running(program: Path, role: str) -> AsyncIterator[list[WorkerCounts]]:
    """Run a mock worker; the list gets its counts when it has ended."""
    process = await asyncio.create_subprocess_exec(
        str(program), str(PORT), role, str(INTERVAL_US), stdout=asyncio.subprocess.PIPE
    )
    counts: list[WorkerCounts] = []
    try:
        for _ in range(200):
            try:
                await fetch(URL, "GET", "/health")
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        yield counts
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = await process.communicate()
    counts.append(msgspec.json.decode(output, type=WorkerCounts))


URL = f"http://127.0.0.1:{PORT}"
CHAT = "/v1/chat/completions"


async def test_the_worker_streams_at_its_interval_with_stamps(mock_worker: Path) -> None:
    async with _running(mock_worker, "decode") as counts:
        sent_at_ns = time.monotonic_ns()
        response = await fetch(URL, "POST", CHAT, body=BODY % (b"true", 5))
        plain = await fetch(URL, "POST", CHAT, body=BODY % (b"false", 5))
        assert (await fetch(URL, "POST", "/abort_request", body=b'{"rid":"a"}')).body == b""
        await fetch(URL, "POST", CHAT, body=b'{"bootstrap_room":1,"stream": true,"max_tokens":1}')
    *events, done = sse_events(response.body)
    stamps = [json.loads(event)["ts"] for event in events]
    assert done == b"[DONE]"
    assert len(stamps) == 5
    assert stamps == sorted(stamps)
    assert 5 * 2e6 <= stamps[-1] - sent_at_ns < 1e9
    assert len(response.chunks) == 6
    assert json.loads(plain.body)["choices"][0]["finish_reason"] == "stop"
    assert (counts[0].num_posts, counts[0].num_streams, counts[0].num_bootstrapped) == (3, 2, 1)
    assert counts[0].num_connections == counts[0].num_probes + 4
    assert counts[0].num_aborts == 1


async def test_a_prefill_worker_sends_one_event(mock_worker: Path) -> None:
    async with _running(mock_worker, "prefill"):
        response = await fetch(URL, "POST", CHAT, body=BODY % (b"true", 5))
    assert len(sse_events(response.body)) == 2


@pytest.mark.parametrize("role", ["null", "prefill", "decode"])
async def test_the_worker_answers_probes(mock_worker: Path, role: str) -> None:
    async with _running(mock_worker, role):
        bodies = {
            path: json.loads((await fetch(URL, "GET", path)).body)
            for path in ("/server_info", "/model_info", "/v1/models", "/v1/loads?include=core")
        }
        assert (await fetch(URL, "GET", "/health")).status == 200
    assert bodies["/server_info"]["disaggregation_mode"] == role
    assert bodies["/model_info"]["disaggregation_mode"] == role
    assert bodies["/v1/models"]["data"][0]["id"] == "mock-model"
    assert bodies["/v1/loads?include=core"]["loads"][0]["num_running_reqs"] == 0


async def test_the_worker_counts_prompts_and_steps_as_sglang_does(mock_worker: Path) -> None:
    async with _running(mock_worker, "null"):
        await fetch(URL, "POST", CHAT, body=BODY % (b"true", 5))
        await fetch(URL, "POST", CHAT, body=BODY % (b"false", 5))
        answered = await fetch(URL, "GET", "/v1/loads?include=core,disagg")
    loads = parse_loads(bytes(answered.body))
    assert not isinstance(loads, NoLoads)
    assert loads[0].total_prefill_uncached_tokens == 2 * 20
    assert loads[0].total_prefill_busy_us == 2
    assert loads[0].decode_moments is not None
    num_steps, sum_running, sum_step_us, *_, num_generated = loads[0].decode_moments
    assert 1 <= num_steps <= 6  # fewer than tokens where the machine had no time for a step
    assert sum_running == num_generated == num_steps
    assert sum_step_us == num_steps * INTERVAL_US


async def test_the_worker_takes_requests_in_any_form(mock_worker: Path) -> None:
    plain = request_bytes("POST", CHAT, body=BODY % (b"false", 1))
    chunked = request_bytes("POST", CHAT, headers=[(b"TRANSFER-ENCODING", b"Chunked")])
    body = BODY % (b"true", 1)
    chunked += encode_chunk(body[:7]) + encode_chunk(body[7:]) + encode_chunk(b"")
    async with _running(mock_worker, "null"), RawClient.to(URL) as client:
        await client.send(plain + chunked + plain, piece_bytes=11)
        first, second, third = [await client.read_response() for _ in range(3)]
        assert first.raw == third.raw
        assert len(sse_events(second.body)) == 2


async def test_the_worker_closes_on_a_preface_of_http2(mock_worker: Path) -> None:
    async with _running(mock_worker, "null"), RawClient.to(URL) as client:
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await client.read_until_close() == b""
