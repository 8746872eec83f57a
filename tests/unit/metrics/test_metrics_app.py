import asyncio
import gzip
from typing import Any

import httpx2
import pytest
from hfx_router.metrics.asgi import create_metrics_app, render
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families


def client_of(bench: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=create_metrics_app(bench.registry))
    return httpx2.AsyncClient(transport=transport, base_url="http://router")


@pytest.mark.parametrize(
    ("accept", "content_type", "last_line"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", None),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8", None),
        ("text/plain;version=abc", "text/plain; version=0.0.4; charset=utf-8", None),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF",
        ),
    ],
)
async def test_the_format_is_negotiated(
    full_bench: Any, accept: str, content_type: str, last_line: str | None
) -> None:
    async with client_of(full_bench) as client:
        answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.text.count("# EOF") == (last_line is not None)
    assert last_line is None or answer.text.endswith(f"{last_line}\n")
    assert 'smg_worker_health{worker="http://10.0.0.2:30000"} 1.0\n' in answer.text


async def test_rendering_by_family_gives_the_same_text(full_bench: Any) -> None:
    registry = full_bench.registry
    assert await render(registry, generate_latest) == generate_latest(registry)
    assert await render(registry, generate_openmetrics) == generate_openmetrics(registry)  # type: ignore[no-untyped-call]


async def test_the_text_parses(full_bench: Any) -> None:
    text = (await render(full_bench.registry, generate_latest)).decode()
    parsed = {family.name for family in text_string_to_metric_families(text)}
    assert parsed == {family.name for family in full_bench.collector.collect()}


async def test_other_work_runs_between_two_families(full_bench: Any) -> None:
    num_turns = 0

    async def work() -> None:
        nonlocal num_turns
        while True:
            num_turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await render(full_bench.registry, generate_latest)
    task.cancel()
    assert num_turns >= len(full_bench.families())


async def test_gzip_on_request_only(full_bench: Any) -> None:
    async with client_of(full_bench) as client:
        plain = await client.get("/metrics", headers={"accept-encoding": "identity"})
        async with client.stream("GET", "/metrics", headers={"accept-encoding": "gzip"}) as packed:
            raw = b"".join([chunk async for chunk in packed.aiter_raw()])
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == plain.content


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
        ("GET", "/metrics/x", 404),
        ("GET", "/health", 404),
    ],
)
async def test_nothing_but_get_metrics(bench: Any, method: str, path: str, status: int) -> None:
    async with client_of(bench) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
