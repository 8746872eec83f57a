"""Which headers reach a worker, where request ids come from, and whose key a worker is shown."""

import re

import pytest
from hfx_router.workers.worker import WorkerSpec
from support.mock_worker import RecordingWorker
from support.router import GENERATE, RunningRouter, one_pair, one_worker, running_router
from support.script import answer as scripted

FORWARDED = [
    (b"authorization", b"Bearer k"),
    (b"content-type", b"application/json; charset=utf-8"),
    (b"accept", b"text/event-stream"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"tracestate", b"a=1,b=2"),
    (b"baggage", b"k=v"),
    (b"x-correlation-id", b"corr"),
    (b"x-request-id-part", b"7"),
    (b"x-smg-routing-key", b"session-1"),
    (b"x-smg-priority", b"bulk"),
    (b"x-slo-ttft-ms", b"500"),
    (b"x-slo-class", b"chat"),
    (b"x-llm-d-slo-tpot-ms", b"40"),
    (b"x-sgl-ttft-slo-ms", b"100"),
]

DROPPED = [
    (b"cookie", b"session=secret"),
    (b"user-agent", b"curl"),
    (b"accept-encoding", b"gzip"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"x-forwarded-host", b"evil"),
    (b"forwarded", b"for=1.2.3.4"),
    (b"x-override-rid", b"1"),
    (b"x-override-bootstrap-host", b"evil"),
    (b"x-data-parallel-rank", b"1"),
    (b"x-custom", b"1"),
    (b"connection", b"keep-alive"),
    (b"keep-alive", b"timeout=5"),
    (b"te", b"trailers"),
    (b"proxy-authorization", b"Basic x"),
    (b"origin", b"http://app"),
]


async def _received_lines(
    router: RunningRouter, worker: RecordingWorker, headers: list[tuple[bytes, bytes]]
) -> list[bytes]:
    async with router.client() as client:
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        await client.send(
            b"POST /generate HTTP/1.1\r\nHost: router\r\n%bContent-Length: %d\r\n\r\n%b"
            % (lines, len(GENERATE), GENERATE)
        )
        await client.read_response()
    return worker.requests_for("/generate")[-1].raw_head.split(b"\r\n")


@pytest.mark.parametrize("header", FORWARDED, ids=lambda header: header[0].decode())
async def test_header_is_forwarded(header: tuple[bytes, bytes]) -> None:
    async with one_worker() as (router, worker):
        lines = await _received_lines(router, worker, [(header[0].title(), header[1])])
        assert b"%b: %b" % header in lines


@pytest.mark.parametrize("header", DROPPED, ids=lambda header: header[0].decode())
async def test_header_stops_here(header: tuple[bytes, bytes]) -> None:
    async with one_worker() as (router, worker):
        lines = await _received_lines(router, worker, [header])
        assert not any(line.lower().startswith(header[0] + b":") for line in lines)


async def test_the_head_that_a_worker_receives() -> None:
    async with one_worker() as (router, worker):
        lines = await _received_lines(
            router, worker, [*DROPPED, *FORWARDED, (b"X-Request-Id", b"abc")]
        )
        assert lines == [
            b"POST /generate HTTP/1.1",
            b"host: 127.0.0.1:%d" % worker.port,
            *[b"%b: %b" % header for header in FORWARDED],
            b"x-request-id: abc",
            b"content-length: %d" % len(GENERATE),
            b"",
            b"",
        ]


async def test_both_legs_receive_the_same_headers() -> None:
    async with one_pair() as (router, prefill, decode):
        await router.post("/generate", headers=[*FORWARDED[2:], *DROPPED])
        heads = [
            worker.requests_for("/generate")[0].headers[1:]  # without host
            for worker in (prefill, decode)
        ]
        assert heads[0] == heads[1]
        assert set(FORWARDED[2:]) <= set(heads[0])


async def test_the_query_is_forwarded_as_written() -> None:
    async with one_worker() as (router, worker):
        await router.post("/generate?a=1&b=%20x&&c")
        assert worker.requests_for("/generate")[0].path == "/generate?a=1&b=%20x&&c"


# --- request ids ---


@pytest.mark.parametrize(
    "name", [b"x-request-id", b"x-correlation-id", b"x-trace-id", b"request-id"]
)
async def test_a_clients_request_id_is_forwarded_and_echoed(name: bytes) -> None:
    async with one_worker() as (router, worker):
        answer = await router.post("/generate", headers=[(name, b"my-id-1")])
        assert answer.header("x-request-id") == b"my-id-1"
        assert worker.requests_for("/generate")[0].header("x-request-id") == b"my-id-1"


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/generate", b"gnt-"),
        ("/v1/chat/completions", b"chatcmpl-"),
        ("/v1/completions", b"cmpl-"),
        ("/v1/responses", b"resp-"),
        ("/v1/embeddings", b"req-"),
        ("/v1/rerank", b"req-"),
    ],
)
async def test_an_id_is_made_where_the_client_sent_none(path: str, prefix: bytes) -> None:
    async with one_worker() as (router, worker):
        ids = []
        for _ in range(2):
            answer = await router.post(path, b'{"prompt":"a"}')
            ids.append(answer.header("x-request-id") or b"")
        assert all(re.fullmatch(prefix + rb"[0-9a-z]{24}", made) for made in ids)
        assert ids[0] != ids[1]
        assert [request.header("x-request-id") for request in worker.requests_for(path)] == ids


async def test_request_id_headers_replace_the_usual_ones() -> None:
    async with one_worker("--request-id-headers", "x-mine", "x-other") as (router, worker):
        answers = [
            await router.post("/generate", headers=headers)
            for headers in (
                [(b"x-request-id", b"usual"), (b"x-other", b"second"), (b"X-Mine", b"first")],
                [(b"x-other", b"second")],
            )
        ]
        assert [answer.header("x-request-id") for answer in answers] == [b"first", b"second"]
        lines = worker.requests_for("/generate")[0].raw_head
        assert b"x-request-id: first\r\n" in lines
        assert b"usual" not in lines


async def test_an_absurdly_long_id_is_replaced() -> None:
    async with one_worker() as (router, _):
        answer = await router.post("/generate", headers=[(b"x-request-id", b"x" * 300)])
        assert (answer.header("x-request-id") or b"").startswith(b"gnt-")


async def test_a_workers_own_request_id_does_not_reach_the_client_twice() -> None:
    async with one_worker() as (router, worker):
        worker.queue(scripted(headers=[(b"X-Request-Id", b"theirs")], body=b"{}"))
        answer = await router.post("/generate", headers=[(b"x-request-id", b"ours")])
        assert [v for k, v in answer.headers if k.lower() == b"x-request-id"] == [b"ours"]


# --- keys ---


@pytest.mark.parametrize(
    ("client_key", "shown"), [(b"Bearer theirs", b"Bearer theirs"), (None, b"Bearer worker-key")]
)
async def test_a_workers_own_key_is_sent_only_where_the_client_sent_none(
    client_key: bytes | None, shown: bytes
) -> None:
    async with RecordingWorker() as worker, running_router() as router:
        registrar = router.router.registrar
        await registrar.settled(registrar.submit(WorkerSpec(url=worker.url, api_key="worker-key")))
        headers = [] if client_key is None else [(b"authorization", client_key)]
        await router.post("/generate", headers=headers)
        [received] = worker.requests_for("/generate")
        assert [v for k, v in received.headers if k == b"authorization"] == [shown]
