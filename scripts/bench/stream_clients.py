"""Two clients for the same streams: the load test's own, and a plain one to compare it with.

Run as a process of its own: `python -m bench.stream_clients KIND URL NUM RATE TOKENS` prints one
JSON line with what the client cost and what it measured.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator

import aiohttp
import msgspec
import uvloop

from hfx_sgl.clock import WallClock
from hfx_sgl.loadtest.session import Listeners, run_load_test
from hfx_sgl.loadtest.settings import Endpoint, LoadSettings, OutputLengths, Target
from hfx_sgl.prompt import Prompt
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.summarise import summarise
from hfx_sgl.workload.planned import PlannedRequest

OWN, PLAIN = "hfx-loadtest", "aiohttp, json of every event"
PROMPT_TOKENS = 256


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one client says of one run."""

    kind: str
    num_tokens: int
    cpu_s: float
    wall_s: float
    num_missed: int
    p99_send_error_ms: float | None
    latencies_ms: dict[str, float]
    """Keys as `p50_ttft`; empty for the plain client."""


def planned(num: int, rate_per_s: float, num_tokens: int) -> Iterator[PlannedRequest]:
    """Requests at even distances; `r<number>` is their id."""
    for number in range(num):
        yield PlannedRequest(
            request_id=f"r{number}",
            class_name="bench",
            at_s=number / rate_per_s,
            prompt=Prompt((number,), (PROMPT_TOKENS,)),
            num_output_tokens=num_tokens,
            max_output_tokens=num_tokens,
        )


async def run_own(url: str, requests: Iterator[PlannedRequest]) -> ClientReport:
    records: list[RequestRecord] = []
    settings = LoadSettings(
        target=Target(base_url=url, endpoint=Endpoint.CHAT, model="mock-model"),
        output_lengths=OutputLengths.IGNORE_EOS,
    )
    started_s, cpu_s = time.monotonic(), time.process_time()
    harvest = await run_load_test(
        settings,
        requests,
        clock=WallClock(),
        listeners=Listeners(
            on_record=lambda position, record: records.append(record),
            on_sample=lambda sample: None,
            say=lambda line: None,
        ),
        sample_interval_s=None,
    )
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - started_s
    overall = summarise(records).overall
    return ClientReport(
        kind=OWN,
        num_tokens=overall.total_output_tokens,
        cpu_s=cpu_s,
        wall_s=wall_s,
        num_missed=overall.num_requests - overall.completed,
        p99_send_error_ms=harvest.verdict.p99_send_error_ms,
        latencies_ms={
            f"{name}_{metric}": getattr(overall, f"{field}_{metric}_ms")
            for metric in ("ttft", "tpot", "e2e_latency")
            for name, field in (("mean", "mean"), ("p50", "median"), ("p90", "p90"), ("p99", "p99"))
            if getattr(overall, f"{field}_{metric}_ms") is not None
        },
    )


async def run_plain(url: str, requests: Iterator[PlannedRequest]) -> ClientReport:
    """The usual way: a task per request, aiohttp's lines, JSON of every event."""
    errors: list[str] = []
    counts: list[int] = []

    async def ask(session: aiohttp.ClientSession, request: PlannedRequest) -> None:
        body = {
            "model": "mock-model",
            "messages": [{"role": "user", "content": "abc " * request.prompt.num_tokens}],
            "max_tokens": request.max_output_tokens,
            "stream": True,
        }
        gaps: list[float] = []
        last_at_s = time.perf_counter()
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            async for line in answer.content:
                text = line.strip().removeprefix(b"data: ")
                if not text or text == b"[DONE]":
                    continue
                if json.loads(text)["choices"][0]["delta"].get("content"):
                    at_s = time.perf_counter()
                    gaps.append(at_s - last_at_s)
                    last_at_s = at_s
        if len(gaps) < request.num_output_tokens:
            errors.append(request.request_id)
        counts.append(len(gaps))

    started_s, cpu_s = time.monotonic(), time.process_time()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for request in requests:
            await asyncio.sleep(max(0.0, started_s + request.at_s - time.monotonic()))
            group.create_task(ask(session, request))
    return ClientReport(
        kind=PLAIN,
        num_tokens=sum(counts),
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.monotonic() - started_s,
        num_missed=len(errors),
        p99_send_error_ms=None,
        latencies_ms={},
    )


def main(kind: str, url: str, num: str, rate_per_s: str, num_tokens: str) -> None:
    requests = planned(int(num), float(rate_per_s), int(num_tokens))
    run = run_own if kind == OWN else run_plain
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run(url, requests))
    print(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
