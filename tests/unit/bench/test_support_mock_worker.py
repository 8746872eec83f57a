"""The recording worker and the raw client, each proven with the other."""

import asyncio
import json
import socket

import pytest
from support.mock_worker import RecordedRequest, RecordingWorker
from support.raw_client import ClosedError, RawClient, fetch, request_bytes, sse_events
from support.script import (
    JSON_TYPE,
    Ending,
    Script,
    answer,
    closed,
    cut_body,
    cut_head,
    dribbled,
    garbage,
    huge_head,
    preceded,
    stalled,
)
from support.wire import WireError, encode_chunk

CHAT = b'{"model":"mock-model","messages":[{"role":"user","content":"hi"}]'


async def test_the_request_is_recorded_byte_for_byte() -> None:
    head = b"POST /generate?x=1 HTTP/1.1\r\nHOST: a\r\nX-Two: 2\r\nx-one:  1 \r\n"
    head += b"Content-Length: 15\r\n\r\n"
    body = b'{"text" : "hi"}'
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        await client.send(head + body, piece_bytes=5)
        await client.read_response()
        (request,) = worker.requests
    assert (request.method, request.path, request.route) == ("POST", "/generate?x=1", "/generate")
    assert request.headers == [
        (b"HOST", b"a"),
        (b"X-Two", b"2"),
        (b"x-one", b"1"),
        (b"Content-Length", b"15"),
    ]
    assert request.header("x-two") == b"2"
    assert request.header("x-three") is None
    assert request.raw_head == head
    assert request.body == request.raw_body == body
    assert request.json() == {"text": "hi"}
    assert request.is_answered
    assert not request.closed_early


async def test_a_chunked_request_is_recorded_with_and_without_its_framing() -> None:
    raw_body = encode_chunk(b'{"text":') + encode_chunk(b'"hi"}') + encode_chunk(b"")
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        headers = [(b"transfer-encoding", b"chunked")]
        await client.send(request_bytes("POST", "/generate", headers=headers) + raw_body)
        await client.read_response()
    assert worker.requests[0].body == b'{"text":"hi"}'
    assert worker.requests[0].raw_body == raw_body


async def test_connections_are_told_apart_and_counted() -> None:
    async with RecordingWorker() as worker:
        async with RawClient.to(worker.url) as client:
            for _ in range(2):
                await client.send(request_bytes("GET", "/health"))
                await client.read_response(method="GET")
            assert worker.num_open_connections == 1
        await fetch(worker.url, "GET", "/health")
        await worker.wait_idle()
        assert [request.connection_id for request in worker.requests] == [1, 1, 2]
        assert worker.num_connections == 2


async def test_ports_are_below_the_ephemeral_range_and_can_be_chosen() -> None:
    async with RecordingWorker() as first:
        assert first.port < 32_768
        with pytest.raises(OSError, match="in use"):
            await RecordingWorker(port=first.port).start()


@pytest.mark.parametrize("role", ["null", "prefill", "decode"])
async def test_probes_tell_what_the_worker_is(role: str) -> None:
    async with RecordingWorker(role=role) as worker:
        worker.state.dp_size = 2
        worker.state.bootstrap_port = 9001
        worker.state.num_running_reqs = 3
        info = json.loads((await fetch(worker.url, "GET", "/server_info")).body)
        model = json.loads((await fetch(worker.url, "GET", "/model_info")).body)
        models = json.loads((await fetch(worker.url, "GET", "/v1/models")).body)
        loads = json.loads((await fetch(worker.url, "GET", "/v1/loads?include=core")).body)
        worker.state.health_status = 503
        health = await fetch(worker.url, "GET", "/health")
    assert info["disaggregation_mode"] == model["disaggregation_mode"] == role
    assert (info["dp_size"], info["disaggregation_bootstrap_port"]) == (2, 9001)
    assert models["data"][0]["id"] == "mock-model"
    assert [load["num_running_reqs"] for load in loads["loads"]] == [3, 3]
    assert health.status == 503


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("POST", "/nowhere", b"{}", 404),
        ("POST", "/generate", b"{", 400),
        ("POST", "/generate", b"[]", 400),
        ("POST", "/v1/chat/completions", b"{}", 400),
        ("POST", "/abort_request", b'{"rid":"a"}', 200),
        ("POST", "/flush_cache", b"", 200),
        ("POST", "/v1/embeddings", b'{"input":["a","b"]}', 200),
        ("POST", "/v1/rerank", b'{"query":"a","documents":["b"]}', 200),
        ("POST", "/v1/score", b'{"query":"a","items":["b"]}', 200),
        ("POST", "/v1/classify", b'{"input":"a"}', 200),
        ("POST", "/v1/responses", b'{"input":"a"}', 200),
        ("POST", "/tokenize", b'{"prompt":"a"}', 200),
        ("POST", "/detokenize", b'{"tokens":[1]}', 200),
    ],
)
async def test_statuses(method: str, path: str, body: bytes | None, status: int) -> None:
    async with RecordingWorker() as worker:
        response = await fetch(worker.url, method, path, body=body)
        assert response.status == status
        assert [request.route for request in worker.requests] == [path]


async def test_generate_counts_tokens_and_keeps_the_rid() -> None:
    body = b'{"text":"abc","rid":"r","sampling_params":{"max_new_tokens":2},"return_logprob":true}'
    async with RecordingWorker() as worker:
        out = json.loads((await fetch(worker.url, "POST", "/generate", body=body)).body)
    assert out["output_ids"] == [0, 1]
    assert out["text"] == " t0 t1"
    meta = out["meta_info"]
    assert (meta["id"], meta["prompt_tokens"], meta["completion_tokens"]) == ("r", 3, 2)
    assert meta["finish_reason"] == {"type": "length", "length": 2}
    assert meta["input_token_logprobs"][0] == [None, 100, None]
    assert len(meta["input_token_logprobs"]) == 3
    assert len(meta["output_token_logprobs"]) == 2


async def test_a_batch_gives_a_list_and_numbered_rids() -> None:
    body = b'{"input_ids":[[1,2],[3]],"rid":"r"}'
    async with RecordingWorker() as worker:
        outs = json.loads((await fetch(worker.url, "POST", "/generate", body=body)).body)
    assert [out["meta_info"]["id"] for out in outs] == ["r_0", "r_1"]
    assert [out["meta_info"]["prompt_tokens"] for out in outs] == [2, 1]


async def test_a_batch_stream_interleaves_and_numbers_its_events() -> None:
    body = b'{"text":["a","b"],"stream":true,"sampling_params":{"max_new_tokens":2}}'
    async with RecordingWorker() as worker:
        response = await fetch(worker.url, "POST", "/generate", body=body)
    *events, done = sse_events(response.body)
    assert done == b"[DONE]"
    assert [json.loads(event)["index"] for event in events] == [0, 1, 0, 1]
    assert response.framing == "chunked"
    assert len(response.chunks) == 5


async def test_a_prefill_engine_stops_after_one_token() -> None:
    async with RecordingWorker(role="prefill") as worker:
        body = CHAT + b',"max_tokens":9}'
        out = json.loads((await fetch(worker.url, "POST", "/v1/chat/completions", body=body)).body)
    assert out["usage"]["completion_tokens"] == 1
    assert out["choices"][0]["finish_reason"] == "length"


async def test_a_chat_stream_has_role_tokens_finish_usage_and_done() -> None:
    body = CHAT + b',"max_tokens":2,"stream":true,"stream_options":{"include_usage":true}}'
    async with RecordingWorker() as worker:
        response = await fetch(worker.url, "POST", "/v1/chat/completions", body=body)
    *raw, done = sse_events(response.body)
    events = [json.loads(event) for event in raw]
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert response.header("content-type") == b"text/event-stream; charset=utf-8"
    assert deltas[0]["role"] == "assistant"
    assert [delta.get("content") for delta in deltas[1:]] == [" t0", " t1", None]
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 2
    assert events[-1]["choices"] == []
    assert done == b"[DONE]"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_completions(is_stream: bool) -> None:
    body = b'{"prompt":"ab","max_tokens":2,"stream":%s}' % str(is_stream).lower().encode()
    async with RecordingWorker() as worker:
        response = await fetch(worker.url, "POST", "/v1/completions", body=body)
    if is_stream:
        texts = [
            json.loads(event)["choices"][0]["text"] for event in sse_events(response.body)[:-1]
        ]
        assert texts == [" t0", " t1"]
    else:
        out = json.loads(response.body)
        assert out["choices"][0]["text"] == " t0 t1"
        assert out["usage"]["total_tokens"] == 4


async def test_scripts_are_taken_by_path_then_in_order_and_spare_the_probes() -> None:
    async with RecordingWorker() as worker:
        worker.queue(answer(status=500), answer(status=501))
        worker.queue(answer(status=418, body=b"tea"), path="/health")
        statuses = [
            (await fetch(worker.url, "GET", "/model_info")).status,
            (await fetch(worker.url, "POST", "/abort_request", body=b"{}")).status,
            (await fetch(worker.url, "GET", "/health?a=b")).status,
            (await fetch(worker.url, "POST", "/generate", body=b"{}")).status,
            (await fetch(worker.url, "POST", "/v1/completions", body=b"{}")).status,
            (await fetch(worker.url, "GET", "/health")).status,
        ]
    assert statuses == [200, 200, 418, 500, 501, 200]


@pytest.mark.parametrize("is_async", [False, True])
async def test_respond_decides_unless_it_has_no_opinion(is_async: bool) -> None:
    def choose(request: RecordedRequest) -> Script | None:
        return answer(status=429) if request.body == b"{}" else None

    async def choose_later(request: RecordedRequest) -> Script | None:
        await asyncio.sleep(0)
        return choose(request)

    async with RecordingWorker(respond=choose_later if is_async else choose) as worker:
        assert (await fetch(worker.url, "POST", "/generate", body=b"{}")).status == 429
        assert (await fetch(worker.url, "POST", "/generate", body=b'{"text":"a"}')).status == 200


async def test_an_error_of_respond_is_raised_at_the_end() -> None:
    def fail(request: RecordedRequest) -> Script:
        raise KeyError(request.path)

    worker = RecordingWorker(respond=fail)
    await worker.start()
    with pytest.raises(ClosedError):
        await fetch(worker.url, "GET", "/health")
    with pytest.raises(KeyError, match="/health"):
        await worker.stop()


async def test_a_request_that_is_no_http_is_raised_at_the_end() -> None:
    worker = RecordingWorker()
    await worker.start()
    async with RawClient.to(worker.url) as client:
        await client.send(b"GET / HTTP/1.1\r\nnonsense\r\n\r\n")
        assert await client.is_closed()
    with pytest.raises(WireError, match="without a colon"):
        await worker.stop()


async def test_a_preface_of_http2_is_closed_without_a_record() -> None:
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await client.is_closed()
        assert worker.requests == []


WHOLE = answer(body=b"0123456789")
STREAM = answer(chunks=[b"01234", b"56789"])


@pytest.mark.parametrize(
    ("script", "body", "is_complete"),
    [
        (WHOLE, b"0123456789", True),
        (STREAM, b"0123456789", True),
        (dribbled(WHOLE), b"0123456789", True),
        (dribbled(STREAM), b"0123456789", True),
        (cut_body(WHOLE, 3), b"012", False),
        (cut_body(WHOLE, 3, Ending.RESET), b"012", False),
        (cut_body(STREAM, 11), b"01234", False),
        (answer(body=b"old", version=b"HTTP/1.0", is_framed=False), b"old", True),
        (answer(headers=(JSON_TYPE, (b"connection", b"close")), body=b"bye",
                ending=Ending.CLOSE), b"bye", True),
        (huge_head(100_000, body=b"tail"), b"tail", True),
        (answer(status=204, is_framed=False), b"", True),
    ],
)  # fmt: skip
async def test_scripted_bodies(script: Script, body: bytes, is_complete: bool) -> None:
    async with RecordingWorker() as worker:
        worker.queue(script)
        response = await fetch(worker.url, "POST", "/generate", body=b"{}")
        assert bytes(response.body) == body
        assert response.is_complete is is_complete
        assert script.raw.startswith(bytes(response.raw))
        await worker.wait_idle()
        assert worker.requests[0].closed_early is False


@pytest.mark.parametrize(
    "script", [closed(), closed(Ending.RESET), cut_head(WHOLE), cut_head(WHOLE, Ending.RESET)]
)
async def test_scripts_that_end_before_the_head(script: Script) -> None:
    async with RecordingWorker() as worker:
        worker.queue(script)
        with pytest.raises(ClosedError):
            await fetch(worker.url, "POST", "/generate", body=b"{}")


async def test_a_reset_is_a_reset_on_the_wire() -> None:
    async with RecordingWorker() as worker:
        worker.queue(closed(Ending.RESET), closed())
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (worker.host, worker.port))
            await loop.sock_sendall(sock, request_bytes("POST", "/generate", body=b"{}"))
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(sock, 1)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, (worker.host, worker.port))
            await loop.sock_sendall(sock, request_bytes("POST", "/generate", body=b"{}"))
            assert await loop.sock_recv(sock, 1) == b""


async def test_garbage_and_interim_answers() -> None:
    async with RecordingWorker() as worker:
        worker.queue(garbage(), preceded(WHOLE))
        async with RawClient.to(worker.url) as client:
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            assert await client.read_until_close() == garbage().raw
        response = await fetch(worker.url, "POST", "/generate", body=b"{}")
        assert [head.start_line for head in response.interim] == [b"HTTP/1.1 100 Continue"]
        assert response.raw == preceded(WHOLE).raw


async def test_a_gate_and_a_delay_hold_the_answer_back() -> None:
    gate = asyncio.Event()
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        worker.queue(answer(body=b"x", gate=gate, delay_s=0.001))
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        await worker.wait_requests(path="/generate")
        assert not await client.is_closed(within_s=0.02)
        assert worker.requests[0].num_sent_bytes == 0
        gate.set()
        assert (await client.read_response()).body == b"x"


async def test_chunks_come_one_by_one_with_their_delay() -> None:
    async with RecordingWorker() as worker:
        worker.queue(answer(chunks=[b"a", b"b"], chunk_delay_s=0.03))
        response = await fetch(worker.url, "POST", "/generate", body=b"{}")
    first_s, second_s = response.chunk_at_s
    assert second_s - first_s > 0.02


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_that_leaves_a_stalled_answer_is_seen(is_reset: bool) -> None:
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        worker.queue(stalled())
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        (request,) = await worker.wait_requests()
        with pytest.raises(TimeoutError):
            await worker.wait_disconnect(request, timeout_s=0.02)
        if is_reset:
            client.reset()
        else:
            client.close()
        await worker.wait_disconnect(request)
        assert request.closed_early
        assert not request.is_answered
        assert worker.num_open_connections == 0


async def test_a_client_that_leaves_in_mid_stream_is_seen() -> None:
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        worker.queue(answer(chunks=[b"a"] * 1000, chunk_delay_s=0.005))
        await client.send(request_bytes("POST", "/generate", body=b"{}"))
        response = await client.read_head()
        assert await client.next_chunk(response) == b"a"
        client.close()
        await worker.wait_disconnect(worker.requests[0])
        assert worker.requests[0].closed_early


async def test_a_client_that_does_not_read_stops_the_worker_from_writing() -> None:
    total_bytes = 64 * 2**20
    script = answer(chunks=[b"x" * 2**16] * (total_bytes // 2**16))
    async with RecordingWorker() as worker:
        client = RawClient(worker.host, worker.port, receive_buffer_bytes=4096)
        async with client:
            worker.queue(script)
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            (request,) = await worker.wait_requests()
            sent_bytes = -1
            while sent_bytes != request.num_sent_bytes:
                sent_bytes = request.num_sent_bytes
                await asyncio.sleep(0.05)
            assert 0 < sent_bytes < total_bytes // 2


async def test_a_worker_that_does_not_read_stops_the_client_from_writing() -> None:
    async with RecordingWorker() as worker:
        async with RawClient(worker.host, worker.port, timeout_s=0.3) as client:
            await client.send(request_bytes("GET", "/health"))
            await client.read_response(method="GET")
            worker.pause_reading()
            upload = request_bytes("POST", "/generate", body=b"x" * (64 * 2**20))
            with pytest.raises(TimeoutError):
                await client.send(upload)
            worker.resume_reading()
        await worker.wait_idle()
        assert [request.route for request in worker.requests] == ["/health"]


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_stopped_worker_drops_its_clients_and_can_come_back(is_reset: bool) -> None:
    async with RecordingWorker() as worker:
        async with RawClient.to(worker.url) as client:
            worker.queue(stalled())
            await client.send(request_bytes("POST", "/generate", body=b"{}"))
            (request,) = await worker.wait_requests()
            await worker.stop(is_reset=is_reset)
            assert await client.is_closed()
            assert not request.closed_early
        with pytest.raises(ConnectionRefusedError):
            await fetch(worker.url, "GET", "/health")
        await worker.start()
        assert (await fetch(worker.url, "GET", "/health")).status == 200


async def test_a_half_closed_client_still_gets_what_was_written() -> None:
    async with RecordingWorker() as worker, RawClient.to(worker.url) as client:
        await client.send(request_bytes("GET", "/health"))
        response = await client.read_response(method="GET")
        assert response.is_complete
        client.shut_writing()
        await worker.wait_disconnect(worker.requests[0])
        assert not worker.requests[0].closed_early
