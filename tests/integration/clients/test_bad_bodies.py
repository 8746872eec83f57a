"""Bodies that no worker gets to see: a 400 names what is wrong, and the connection lives on."""

import json

import pytest
from support.raw_client import request_bytes
from support.router import in_mode, one_pair, one_worker

# Body, the field that the error names, and a part of its message.
BAD: dict[str, tuple[bytes, str | None, str]] = {
    "empty": (b"", None, "empty"),
    "blank": (b" \n ", None, "empty"),
    "cut": (b'{"text":"hi', None, "not valid JSON"),
    "surplus": (b'{"text":"hi"} x', None, "not valid JSON"),
    "two objects": (b"{}{}", None, "not valid JSON"),
    "single quotes": (b"{'text':1}", None, "not valid JSON"),
    "trailing comma": (b'{"text":1,}', None, "not valid JSON"),
    "NaN": (b'{"temperature":NaN}', None, "not valid JSON"),
    "leading zero": (b'{"a":01}', None, "not valid JSON"),
    "control character": (b'{"a":"\x01"}', None, "not valid JSON"),
    "unknown escape": (rb'{"a":"\x41"}', None, "not valid JSON"),
    "half a surrogate pair": (rb'{"text":"\ud800"}', None, "not valid JSON"),
    "byte order mark": (b'\xef\xbb\xbf{"a":1}', None, "not valid JSON"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), None, "not valid JSON"),
    "binary": (bytes(range(256)), None, "not valid JSON"),
    "form": (b"text=hi&stream=true", None, "not valid JSON"),
    "array": (b'[{"text":"hi"}]', None, "must be a JSON object"),
    "string": (b'"hi"', None, "must be a JSON object"),
    "number": (b"5", None, "must be a JSON object"),
    "null": (b"null", None, "must be a JSON object"),
    "stream": (b'{"stream":"yes"}', "stream", "bool"),
    "stream as a number": (b'{"stream":1}', "stream", "bool"),
    "rid": (b'{"rid":5}', "rid", "str"),
    "rid in a list": (b'{"rid":["a",5]}', "rid", "str"),
    "n": (b'{"n":"x"}', "n", "int"),
    "n as a fraction": (b'{"n":1.5}', "n", "int"),
    "n beyond all numbers": (b'{"n":1e999}', "n", "range"),
    "return_logprob": (b'{"return_logprob":"all"}', "return_logprob", "bool"),
    "rid that is no UTF-8": (b'{"rid":"\xff"}', None, "not valid JSON"),
    "10,000 deep arrays": (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", None, "not valid"),
    "100,000 deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, None, "not valid"),
    "deep and never closed": (b"[" * 100_000, None, "must be a JSON object"),
}


@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.parametrize(("body", "param", "named"), BAD.values(), ids=BAD.keys())
async def test_bad_body(body: bytes, param: str | None, named: str, mode: str) -> None:
    async with in_mode(mode) as (router, workers), router.client() as client:
        await client.send(request_bytes("POST", "/generate", body=body))
        received = await client.read_response()
        assert received.status == 400
        assert received.header("content-type") == b"application/json"
        assert received.header("x-request-id") is not None
        assert received.header("retry-after") is None
        error = json.loads(received.body)["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert named in error["message"]
        assert param is None or param in error["message"]
        # The connection is as good as before, and no worker has heard of it.
        await client.send(request_bytes("POST", "/generate", body=b'{"text":"hi"}'))
        assert (await client.read_response()).status == 200
        for worker in workers:
            assert len(worker.requests_for("/generate")) == 1


# Only a pair needs to understand these.
BAD_FOR_PAIRS = {
    "sampling_params": (b'{"sampling_params":5}', "sampling_params"),
    "sampling_params of a batch": (b'{"sampling_params":[5]}', "sampling_params"),
    "n inside": (b'{"sampling_params":{"n":"x"}}', "sampling_params"),
    "empty batch": (b'{"text":[]}', "text"),
    "several samples": (b'{"n":2}', "n"),
}


@pytest.mark.parametrize(("body", "param"), BAD_FOR_PAIRS.values(), ids=BAD_FOR_PAIRS.keys())
async def test_bad_body_for_a_pair(body: bytes, param: str) -> None:
    async with one_pair() as (router, prefill, _):
        received = await router.post("/generate", body)
        assert received.status == 400
        assert json.loads(received.body)["error"]["param"] == param
        assert prefill.requests_for("/generate") == []


# Not the router's business: the worker says what it thinks of them.
WORKERS_BUSINESS = {
    "bytes that are no UTF-8 in a text": b'{"text":"\xff\xfe"}',
    "bytes that are no UTF-8 in a name": b'{"\xff":1,"text":"a"}',
    "no prompt": b"{}",
    "a prompt of another type": b'{"text":5,"messages":"x","prompt":{}}',
    "temperature": b'{"temperature":"hot"}',
    "999 deep": b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
}


@pytest.mark.parametrize("policy", ["round_robin", "cache_aware", "power_of_two"])
@pytest.mark.parametrize("body", WORKERS_BUSINESS.values(), ids=WORKERS_BUSINESS.keys())
async def test_what_the_router_does_not_judge(body: bytes, policy: str) -> None:
    async with one_worker("--policy", policy) as (router, worker):
        await router.post("/generate", body)
        assert worker.requests_for("/generate")[0].body == body


@pytest.mark.parametrize(
    "sent", [b'{"\xff":1,"bootstrap_room":2}', b'{"bootstrap_room":2,"text":"\xff","a":"\xc3"}']
)
async def test_stripping_copes_with_bytes_that_are_no_utf_8(sent: bytes) -> None:
    async with one_worker() as (router, worker):
        await router.post("/generate", sent)
        [received] = worker.requests_for("/generate")
        assert b"bootstrap_room" not in received.body
        assert received.body.count(b"\xff") == 1


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate, gzip", b"GZIP"])
async def test_compressed_bodies_are_refused_by_name(coding: bytes) -> None:
    async with one_worker() as (router, worker):
        received = await router.post("/generate", headers=[(b"content-encoding", coding)])
        assert received.status == 400
        error = json.loads(received.body)["error"]
        assert error["param"] == "content-encoding"
        assert "compressed" in error["message"]
        assert worker.requests_for("/generate") == []


async def test_the_identity_coding_is_no_compression() -> None:
    async with one_worker() as (router, _):
        for name in (b"identity", b"Identity"):
            received = await router.post("/generate", headers=[(b"content-encoding", name)])
            assert received.status == 200


async def test_a_huge_text_beside_a_field_to_strip() -> None:
    """Removing a member walks the whole body, which must not take long, nor much memory."""
    async with one_worker() as (router, worker):
        text = rb"\"a\\" * 500_000
        await router.post("/generate", b'{"bootstrap_room":1,"text":"%b"}' % text)
        assert worker.requests_for("/generate")[0].body == b'{"text":"%b"}' % text


async def test_no_content_type_is_needed() -> None:
    async with one_worker() as (router, worker), router.client() as client:
        await client.send(request_bytes("POST", "/generate", body=b'{"text":"hi"}'))
        assert (await client.read_response()).status == 200
        assert worker.requests_for("/generate")[0].header("content-type") is None
