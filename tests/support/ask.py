"""Requests to real servers, for end-to-end tests."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp

Json = dict[str, Any]

REQUEST_TIMEOUT_S = 30.0
"""Far above what any of these requests takes; a hang becomes a failure with a name."""

_BUSY_COUNTERS = ("num_running_reqs", "num_waiting_reqs", "num_waiting_uncached_tokens")


class Answer(NamedTuple):
    """One complete answer."""

    status: int
    headers: dict[str, str]
    body: Any
    """Parsed JSON, or text where it is none."""
    took_s: float


async def post(url: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """POST JSON and read the whole answer."""
    started_at_s = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url + path, json=body, headers=headers) as response,
    ):
        text = await response.text()
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lowered, _parsed(text), time.monotonic() - started_at_s)


async def get(url: str, path: str, headers: dict[str, str] | None = None) -> Answer:
    """GET and read the whole answer."""
    started_at_s = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(url + path, headers=headers) as response,
    ):
        text = await response.text()
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, lowered, _parsed(text), time.monotonic() - started_at_s)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def stream(url: str, path: str, body: Json) -> AsyncIterator[str]:
    """POST and yield the data of each server-sent event as it comes."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url + path, json=body) as response,
    ):
        assert response.status == 200, await response.text()
        async for line in response.content:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode()


def busy_counters(loads: Json, *, counts_tokens: bool = True) -> dict[str, float]:
    """Return the counters of a `/v1/loads` answer that an idle server reports as zero.

    `counts_tokens=False` leaves out KV room: a decode server holds that of an aborted hand-off for
    30 s when its prefill is dead and cannot confirm that it has stopped writing (0.5.23).
    """
    busy: dict[str, float] = {}
    for load in loads["loads"]:
        key = f"{load.get('worker', '')}#{load['dp_rank']}"
        names = (*_BUSY_COUNTERS, "num_active_tokens") if counts_tokens else _BUSY_COUNTERS
        counters = {name: load[name] for name in names}
        disaggregation = load.get("disaggregation") or {}
        counters |= {n: v for n, v in disaggregation.items() if n.endswith("_reqs")}
        counters |= load.get("queues") or {}
        busy |= {f"{key} {name}": value for name, value in counters.items() if value}
    return busy


async def wait_idle(url: str, timeout_s: float, *, counts_tokens: bool = True) -> float:
    """Wait until the workers behind a router, or one worker, hold nothing; return how long it took.

    Raises:
        AssertionError: they still do after `timeout_s`; the message names the counters.
    """
    started_at_s = time.monotonic()
    while True:
        answer = await get(url, "/v1/loads?include=core,disagg,queues")
        busy = busy_counters(answer.body, counts_tokens=counts_tokens)
        elapsed_s = time.monotonic() - started_at_s
        if not busy:
            return elapsed_s
        assert elapsed_s < timeout_s, f"still busy after {elapsed_s:.1f} s: {busy}"
        await asyncio.sleep(0.1)


async def wait_busy(url: str, timeout_s: float = 10.0) -> None:
    """Wait until a worker holds a request."""
    give_up_at_s = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at_s:
        answer = await get(url, "/v1/loads?include=core,disagg,queues")
        if busy_counters(answer.body):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing arrived at {url} within {timeout_s} s")
