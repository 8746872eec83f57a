"""Promises over the wire: what workers receive, what is echoed and refused, what is counted."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.mock_worker import RecordingWorker
from support.raw_client import RawResponse, fetch
from support.router import RunningRouter, free_port, in_mode
from support.script import SSE_TYPE, answer

Headers = list[tuple[bytes, bytes]]

SLO_FILE = """\
classes:
  chat: {ttft_s: 10, tpot_s: 5}
  hasty: {ttft_s: 0.000001, tpot_s: 0.000001}
  brief: {e2e_s: 0.000001}
  idle: {}
rules:
  - {api_key: "sk-1", class: hasty}
  - {path: /v1/completions, model: big, class: brief}
default_class: idle
"""
STREAM = b'{"text":"a","stream":true,"sampling_params":{"max_new_tokens":3}}'
WHOLE = b'{"text":"a","sampling_params":{"max_new_tokens":3}}'
CHAT: Headers = [(b"x-slo-class", b"chat")]
HASTY: Headers = [(b"x-slo-class", b"hasty")]
OWN_HASTE: Headers = [(b"x-slo-ttft-ms", b"0.001"), (b"x-slo-tpot-ms", b"0.001")]
ECHO = (b"x-hfx-slo", b"1")


@pytest.fixture
def slo_file(tmp_path: Path) -> str:
    path = tmp_path / "slo.yaml"
    path.write_text(SLO_FILE)
    return str(path)


Started = tuple[RunningRouter, list[RecordingWorker]]


@asynccontextmanager
async def promising(mode: str, slo_file: str, *flags: str) -> AsyncIterator[Started]:
    async with in_mode(mode, "--slo", slo_file, *flags) as (router, workers):
        yield router, workers


def promises(router: RunningRouter) -> Counter[tuple[str, bool]]:
    return router.router.recorder.promises


def error_of(response: RawResponse) -> dict[str, object]:
    error = json.loads(bytes(response.body))["error"]
    assert isinstance(error, dict)
    return error


# --- what workers receive ---

FORWARDED = [
    (
        b'{ "slo":{"ttft_ms":5, "tpot_ms":null} ,"text": "hi", "b":1.0 ,"slo_class":"chat"}',
        b'{"text": "hi","b":1.0}',
    ),
    (rb'{"text":"hi","sl\u006f":null}', b'{"text":"hi"}'),
    (b'{"text":"hi","slow":1,"x":{"slo":1}}', b'{"text":"hi","slow":1,"x":{"slo":1}}'),
    (b'{"slo":{}}', b"{}"),
    (b'{"slo":{},"bootstrap_room":5,"text":"hi"}', b'{"text":"hi"}'),
]


@pytest.mark.parametrize(("sent", "received"), FORWARDED)
async def test_a_worker_sees_no_promise_in_the_body(
    sent: bytes, received: bytes, slo_file: str
) -> None:
    async with promising("regular", slo_file) as (router, [worker]):
        assert (await router.post("/generate", sent)).status == 200
        assert worker.requests_for("/generate")[0].body == received


@pytest.mark.parametrize(("sent", "received"), FORWARDED)
async def test_neither_leg_sees_a_promise_in_the_body(
    sent: bytes, received: bytes, slo_file: str
) -> None:
    async with promising("pair", slo_file) as (router, workers):
        assert (await router.post("/generate", sent)).status == 200
        for worker in workers:
            body = worker.requests_for("/generate")[0].body
            assert body.startswith(received[:-1])
            assert b'"bootstrap_room":5,' not in body
            assert not {"slo", "slo_class"} & json.loads(body).keys()


async def test_tokenizing_drops_the_fields_too(slo_file: str) -> None:
    async with promising("regular", slo_file) as (router, [worker]):
        sent = b'{"prompt":"a","slo_class":"nobody"}'
        answered = await router.post("/tokenize", sent, headers=[ECHO])
        assert answered.status == 200
        assert answered.header("x-hfx-slo") == b"source=none"
        assert worker.requests_for("/tokenize")[0].body == b'{"prompt":"a"}'


async def test_headers_go_on_but_for_the_question(slo_file: str) -> None:
    headers = [(b"x-slo-ttft-ms", b"9"), (b"x-sgl-tps-slo", b"9"), *CHAT, ECHO]
    async with promising("regular", slo_file) as (router, [worker]):
        await router.post("/generate", headers=headers)
        [request] = worker.requests_for("/generate")
        assert [header for header in request.headers if header in headers] == headers[:-1]


# --- what is echoed ---

ECHOED = {
    "default": ([], b"{}", "class=idle; source=none"),
    "class": (CHAT, b"{}", "class=chat; ttft_ms=10000; tpot_ms=5000; source=class"),
    "class in body": ([], b'{"slo_class":"brief"}', "class=brief; e2e_ms=0.001; source=class"),
    "header": (
        [(b"x-llm-d-slo-ttft-ms", b"250"), (b"X-Sgl-Tps-Slo", b"20"), *CHAT],
        b"{}",
        "class=chat; ttft_ms=250; tpot_ms=50; source=header",
    ),
    "body": (
        [],
        b'{"slo":{"e2e_ms":9000.5}}',
        "class=idle; e2e_ms=9000.5; source=body",
    ),
    "rule": (
        [(b"authorization", b"Bearer sk-1")],
        b"{}",
        "class=hasty; ttft_ms=0.001; tpot_ms=0.001; source=rule",
    ),
}


@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.parametrize(("headers", "body", "told"), ECHOED.values(), ids=ECHOED.keys())
async def test_the_promise_is_told_on_request(
    headers: Headers, body: bytes, told: str, mode: str, slo_file: str
) -> None:
    async with promising(mode, slo_file) as (router, _):
        asked = await router.post("/generate", body, headers=[*headers, ECHO])
        assert asked.header("x-hfx-slo") == told.encode()
        unasked = await router.post("/generate", body, headers=headers)
        assert unasked.header("x-hfx-slo") is None


async def test_a_rule_looks_at_path_and_model(slo_file: str) -> None:
    async with promising("regular", slo_file) as (router, _):
        for path, model, told in (
            ("/v1/completions", "big", b"class=brief; e2e_ms=0.001; source=rule"),
            ("/v1/completions", "small", b"class=idle; source=none"),
            ("/generate", "big", b"class=idle; source=none"),
        ):
            body = json.dumps({"prompt": "a", "model": model}).encode()
            answered = await router.post(path, body, headers=[ECHO])
            assert answered.header("x-hfx-slo") == told


@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_streams_and_failures_tell_it_too(body: bytes, slo_file: str) -> None:
    told = b"class=chat; ttft_ms=10000; tpot_ms=5000; source=class"
    async with promising("regular", slo_file) as (router, [worker]):
        headers = [*CHAT, ECHO]
        assert (await router.post("/generate", body, headers=headers)).header("x-hfx-slo") == told
        worker.queue(answer(status=500, body=b"{}"))
        assert (await router.post("/generate", body, headers=headers)).header("x-hfx-slo") == told
    async with promising("regular", slo_file) as (router, [worker]):
        await worker.stop()
        refused = await router.post("/generate", body, headers=headers)
        assert refused.status == 502
        assert refused.header("x-hfx-slo") == told


# --- what is refused ---

REFUSED = {
    "header": ([(b"x-slo-tpot-ms", b"soon")], b"{}", "x-slo-tpot-ms"),
    "header of SGLang": ([(b"x-sgl-tps-slo", b"0")], b"{}", "x-sgl-tps-slo"),
    "unknown key": ([], b'{"slo":{"ttft":5}}', "slo"),
    "bound": ([], b'{"slo":{"ttft_ms":-5}}', "slo.ttft_ms"),
    "class": ([(b"x-slo-class", b"nobody")], b"{}", "x-slo-class"),
    "class in body": ([], b'{"slo_class":"nobody"}', "slo_class"),
}


@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.parametrize(("headers", "body", "param"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_bad_promise_reaches_no_worker(
    headers: Headers, body: bytes, param: str, mode: str, slo_file: str
) -> None:
    async with promising(mode, slo_file) as (router, workers):
        answered = await router.post("/generate", body, headers=[*headers, ECHO])
        assert answered.status == 400
        assert error_of(answered)["param"] == param
        assert error_of(answered)["type"] == "invalid_request_error"
        assert all(not worker.requests_for("/generate") for worker in workers)
        assert promises(router) == {}
        if "class" in param:
            assert "there are chat, hasty, brief, idle" in str(error_of(answered)["message"])


async def test_a_wrong_key_learns_nothing_about_classes(slo_file: str) -> None:
    async with promising("regular", slo_file, "--api-key", "k") as (router, _):
        answered = await router.post("/generate", headers=[(b"x-slo-class", b"nobody"), ECHO])
        assert answered.status == 401
        assert b"hasty" not in bytes(answered.raw)


# --- what is counted ---


@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.parametrize("body", [STREAM, WHOLE], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("headers", "counted"),
    [
        (CHAT, {("chat", True): 1}),
        (HASTY, {("hasty", False): 1}),
        ([(b"x-slo-class", b"brief")], {("brief", False): 1}),
        ([], {}),
        ([*CHAT, *OWN_HASTE], {("chat", False): 1}),
        ([*HASTY, (b"x-slo-ttft-ms", b"10000")], {("hasty", True): 1}),
    ],
    ids=["kept", "broken", "end to end", "nothing", "own bound broken", "own bound kept"],
)
async def test_an_answer_is_judged(
    headers: Headers,
    counted: dict[tuple[str, bool], int],
    body: bytes,
    mode: str,
    slo_file: str,
) -> None:
    async with promising(mode, slo_file) as (router, _):
        assert (await router.post("/generate", body, headers=headers)).status == 200
        assert promises(router) == counted


MERGED = b'{"text":"a","return_logprob":true,"sampling_params":{"max_new_tokens":3}}'


@pytest.mark.parametrize(
    ("headers", "counted"),
    [
        (CHAT, {("chat", True): 1}),
        (HASTY, {("hasty", False): 1}),
        # kept only if the tokens of the answer were counted
        ([(b"x-slo-ttft-ms", b"0.001"), (b"x-slo-tpot-ms", b"9000")], {("idle", True): 1}),
    ],
)
async def test_merged_answers_are_judged(
    headers: Headers, counted: dict[tuple[str, bool], int], slo_file: str
) -> None:
    async with promising("pair", slo_file) as (router, _):
        assert (await router.post("/generate", MERGED, headers=headers)).status == 200
        assert promises(router) == counted


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(("num_tokens", "is_met"), [(1, False), (60, True)])
@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_tokens_of_a_whole_answer_give_it_time(
    num_tokens: int, is_met: bool, is_chunked: bool, mode: str, slo_file: str
) -> None:
    body = b'{"text":"x","meta_info":{"completion_tokens":%d}}' % num_tokens
    headers = [(b"x-slo-ttft-ms", b"1"), (b"x-slo-tpot-ms", b"100")]
    async with promising(mode, slo_file) as (router, workers):
        chunks = [body[:20], body[20:]] if is_chunked else None
        workers[-1].queue(answer(body=body, chunks=chunks, delay_s=0.02))
        assert (await router.post("/generate", headers=headers)).body == body
        assert promises(router) == {("idle", is_met): 1}


FAILURES = {
    "server error": answer(status=500, body=b"{}"),
    "error event": answer(
        headers=[SSE_TYPE], chunks=[b'data: {"error":{"message":"m"}}\n\n', b"data: [DONE]\n\n"]
    ),
    "aborted": answer(body=b'{"meta_info":{"finish_reason":{"type":"abort"}}}'),
    "broken off": answer(headers=[SSE_TYPE], chunks=[b"data: {}\n\n", b"data: {}\n\n"]),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_are_misses(name: str, slo_file: str) -> None:
    script = FAILURES[name]
    if name == "broken off":
        script = type(script)(steps=script.steps[:-1])
    flags = ("--request-timeout-secs", "1") if name == "broken off" else ()
    async with promising("regular", slo_file, *flags) as (router, [worker]):
        worker.queue(script)
        await router.post("/generate", STREAM, headers=CHAT)
        assert promises(router) == {("chat", False): 1}


async def test_a_request_that_no_worker_takes_is_a_miss(slo_file: str) -> None:
    async with promising("regular", slo_file, "--disable-retries") as (router, [worker]):
        await worker.stop()
        assert (await router.post("/generate", headers=CHAT)).status == 502
        assert promises(router) == {("chat", False): 1}


async def test_a_request_that_finds_the_queue_full_is_a_miss(slo_file: str) -> None:
    flags = ("--max-concurrent-requests", "1", "--queue-size", "0")
    async with promising("regular", slo_file, *flags) as (router, [worker]):
        gate = asyncio.Event()
        worker.queue(answer(body=b"{}", gate=gate))
        first = asyncio.create_task(router.post("/generate", headers=CHAT))
        await worker.wait_requests(1, path="/generate")
        assert (await router.post("/generate", headers=CHAT)).status == 429
        assert promises(router) == {("chat", False): 1}
        gate.set()
        await first
        assert promises(router) == {("chat", False): 1, ("chat", True): 1}


@pytest.mark.parametrize("mode", ["regular", "pair"])
async def test_who_leaves_or_asks_the_impossible_is_not_counted(mode: str, slo_file: str) -> None:
    async with promising(mode, slo_file) as (router, workers):
        workers[-1].queue(answer(status=400, body=b"{}"))
        assert (await router.post("/generate", headers=CHAT)).status == 400
        workers[-1].queue(answer(body=b"{}", gate=asyncio.Event()))
        async with router.client() as client:
            await client.send(
                b"POST /generate HTTP/1.1\r\nhost: x\r\nx-slo-class: chat\r\n"
                b"content-length: 2\r\n\r\n{}"
            )
            await workers[-1].wait_requests(2, path="/generate")
        await router.settled()
        assert promises(router) == {}


async def test_a_retried_request_is_judged_once(slo_file: str) -> None:
    async with promising("regular", slo_file) as (router, [worker]):
        worker.queue(answer(status=503, body=b"{}"))
        assert (await router.post("/generate", headers=CHAT)).status == 200
        assert len(worker.requests_for("/generate")) == 2
        assert promises(router) == {("chat", True): 1}


async def test_attainment_is_scraped(slo_file: str) -> None:
    port = free_port()
    overrides = {"disable_prometheus": False, "prometheus_port": port}
    async with in_mode("regular", "--slo", slo_file, **overrides) as (router, _):
        for headers in (CHAT, CHAT, HASTY):
            await router.post("/generate", STREAM, headers=headers)
        scraped = (await fetch(f"http://127.0.0.1:{port}", "GET", "/metrics")).body.decode()
    assert 'hfx_router_slo_attained_total{class="chat",met="true"} 2.0' in scraped
    assert 'hfx_router_slo_attained_total{class="hasty",met="false"} 1.0' in scraped
    assert 'hfx_router_ttft_seconds_bucket{endpoint="generate",le="1e-06"' in scraped


async def test_classes_of_clients_are_labels_where_none_are_configured() -> None:
    async with in_mode("regular") as (router, _):
        bound = (b"x-slo-ttft-ms", b"10000")
        for name in (b"mine", b"not a name", b"x" * 65, b"mine"):
            answered = await router.post("/generate", headers=[(b"x-slo-class", name), bound, ECHO])
            assert answered.status == 200
        await router.post("/generate", headers=[bound])
        unbounded = await router.post("/generate", headers=[(b"x-slo-class", b"mine"), ECHO])
        assert unbounded.header("x-hfx-slo") == b"class=mine; source=none"
        assert promises(router) == {("mine", True): 2, ("other", True): 2, ("none", True): 1}
