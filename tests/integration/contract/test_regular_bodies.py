"""What a worker receives of a client's body: every byte, but for fields that only we may set."""

import pytest
from support.router import one_worker

UNTOUCHED = {
    "unknown fields": b'{"text":"hi","cache_salt":"s","extra_key":{"a":[1,{}]},"slow":null}',
    "numbers as written": b'{"temperature":0.7,"a":1e3,"b":1.0,"c":-0,"d":1E-7,"e":0.1000}',
    "integers beyond 64 bits": b'{"seed":123456789012345678901234567890,"text":"x"}',
    "key order": b'{"z":1,"text":"hi","a":2,"m":3}',
    "escapes": rb'{"text":"\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\ \u0000","k\u0065y":1}',
    "UTF-8": '{"text":"é😀\u2028","ключ":"值"}'.encode(),
    "whitespace": b'\r\n\t {  "text" :\t"hi"\n,  "stream" : false }  \r\n',
    "repeated keys": b'{"text":"one","text":"two","a":1,"a":2}',
    "chat fields that a router need not know": (
        b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}],'
        b'"max_tokens":5,"rid":"r","priority":3,"custom_params":{"x":1},"temperature":0.7}'
    ),
    "empty object": b"{}",
    "nulls": b'{"stream":null,"rid":null,"n":null,"sampling_params":null,"text":null}',
    "a long prompt": b'{"text":"' + b"ab\\n" * 100_000 + b'"}',
}


@pytest.mark.parametrize("body", UNTOUCHED.values(), ids=UNTOUCHED.keys())
async def test_body_is_forwarded_byte_for_byte(body: bytes) -> None:
    async with one_worker() as (router, worker):
        await router.post("/v1/chat/completions", body)
        [received] = worker.requests_for("/v1/chat/completions")
        assert received.body == body
        assert received.header("content-length") == b"%d" % len(body)
        assert received.header("transfer-encoding") is None


@pytest.mark.parametrize("num_prompts", [1, 3])
async def test_batches_are_forwarded_and_answered(num_prompts: int) -> None:
    async with one_worker() as (router, worker):
        prompts = b",".join(b'"p%d"' % index for index in range(num_prompts))
        body = b'{"text":[%b]}' % prompts
        answer = await router.post("/generate", body)
        assert answer.status == 200
        assert worker.requests_for("/generate")[0].body == body


# What the client sends, and what the worker receives.
STRIPPED = {
    "every field that pairs legs": (
        b'{"a": 1, "bootstrap_host":"evil","bootstrap_port":1,"bootstrap_room":7, "b" :0.70,'
        b'"bootstrap_pair_key":"k","decode_tp_size":2,"disagg_prefill_dp_rank":0,"c":"d"}',
        b'{"a": 1,"b" :0.70,"c":"d"}',
    ),
    "escaped spelling of the name": (
        rb'{"text":"hi","bootstrap\u005fhost":"evil","\u0062ootstrap_room":[1,{"a":"}"}]}',
        b'{"text":"hi"}',
    ),
    "repeated": (b'{"bootstrap_room":1,"text":"hi","bootstrap_room":2}', b'{"text":"hi"}'),
    "nothing else": (b'{"bootstrap_room":1}', b"{}"),
    "null": (b'{"text":"a","bootstrap_host":null}', b'{"text":"a"}'),
    "not at the top level": (
        b'{"bootstrap_port":1,"messages":[{"bootstrap_room":"kept, {\\"}"}]}',
        b'{"messages":[{"bootstrap_room":"kept, {\\"}"}]}',
    ),
    "only mentioned in a text": (
        b'{"text":"\\"bootstrap_room\\":1","decode_tp_size":null,"x":"bootstrap_host"}',
        b'{"text":"\\"bootstrap_room\\":1","x":"bootstrap_host"}',
    ),
}


@pytest.mark.parametrize(("sent", "received"), STRIPPED.values(), ids=STRIPPED.keys())
async def test_fields_that_pair_legs_never_come_from_a_client(sent: bytes, received: bytes) -> None:
    async with one_worker() as (router, worker):
        await router.post("/generate", sent)
        assert worker.requests_for("/generate")[0].body == received


async def test_a_client_may_choose_a_rank_where_the_router_does_not() -> None:
    async with one_worker() as (router, worker):
        body = b'{"routed_dp_rank":3,"text":"hi"}'
        await router.post("/generate", body)
        assert worker.requests_for("/generate")[0].body == body
