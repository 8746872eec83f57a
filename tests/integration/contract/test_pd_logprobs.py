"""Log probabilities of the prompt, which only the prefill knows, in the decode's answer."""

import json
from typing import Any

import pytest
from support.engine import compact, event, sse_answer
from support.inference import DONE
from support.raw_client import RawResponse, sse_events
from support.router import one_pair
from support.script import JSON_TYPE, SSE_TYPE, Ending, Script, answer, cut_body, dribbled

BODY = b'{"text":"hi","return_logprob":true}'
STREAM = b'{"text":"hi","return_logprob":true,"stream":true}'


def _out(side: str, *, index: int | None = None, logprobs: object = None) -> dict[str, Any]:
    meta = {"id": side, "input_token_logprobs": logprobs, "output_token_logprobs": [[-1.0, 7]]}
    out: dict[str, Any] = {"text": side, "meta_info": meta, "score": 0.1}
    return out if index is None else {**out, "index": index}


PROMPT = [[None, 1, None], [-0.25, 2, None]]
OTHER_PROMPT = [[-0.5, 3, None]]


def _logprobs(out: Any) -> object:
    return out["meta_info"]["input_token_logprobs"]


@pytest.mark.parametrize("own", [[], None, [[-9.0, 9, None]]])
async def test_the_prompts_logprobs_come_first(own: object) -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(body=compact(_out("p", logprobs=PROMPT))))
        decode.queue(answer(body=compact(_out("d", logprobs=own))))
        received = await router.post("/generate", BODY)
        merged = json.loads(received.body)
        assert _logprobs(merged) == [*PROMPT, *(own or [])]  # type: ignore[misc]
        merged["meta_info"]["input_token_logprobs"] = own
        assert merged == _out("d", logprobs=own)
        assert received.header("content-type") == JSON_TYPE[1]
        assert received.is_complete


async def test_merging_keeps_connections() -> None:
    async with one_pair() as (router, prefill, decode), router.client() as client:
        for _ in range(3):
            await client.send(
                b"POST /generate HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (len(BODY), BODY)
            )
            received = await client.read_response()
            assert _logprobs(json.loads(received.body)) == [
                [None, 100, None], [-0.5, 101, None], [None, 100, None], [-0.5, 101, None]
            ]  # fmt: skip
        for worker in (prefill, decode):
            ids = {request.connection_id for request in worker.requests_for("/generate")}
            assert len(ids) == 1


@pytest.mark.parametrize("flag", [b"true", b"[true,false]"])
async def test_batch(flag: bytes) -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(
            answer(body=compact([_out("p0", logprobs=PROMPT), _out("p1", logprobs=OTHER_PROMPT)]))
        )
        decode.queue(answer(body=compact([_out("d0", logprobs=[]), _out("d1", logprobs=[])])))
        received = await router.post("/generate", b'{"text":["a","b"],"return_logprob":%b}' % flag)
        merged = json.loads(received.body)
        assert [_logprobs(out) for out in merged] == [PROMPT, OTHER_PROMPT]
        assert [out["text"] for out in merged] == ["d0", "d1"]


async def _stream(prefill_script: Script, decode_script: Script) -> RawResponse:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(prefill_script)
        decode.queue(decode_script)
        return await router.post("/generate", STREAM)


@pytest.mark.parametrize("is_slow", ["neither", "prefill", "decode"])
async def test_stream(is_slow: str) -> None:
    prefill = sse_answer([event(_out("p", logprobs=PROMPT)), DONE])
    decode = sse_answer([event(_out(f"d{i}", logprobs=[])) for i in range(3)] + [DONE])
    received = await _stream(
        dribbled(prefill) if is_slow == "prefill" else prefill,
        dribbled(decode) if is_slow == "decode" else decode,
    )
    assert received.is_complete
    assert received.header("content-type") == SSE_TYPE[1]
    *events, done = sse_events(received.body)
    outs = [json.loads(text) for text in events]
    assert [out["text"] for out in outs] == ["d0", "d1", "d2"]
    assert [_logprobs(out) for out in outs] == [PROMPT] * 3
    assert done == b"[DONE]"


async def test_stream_of_a_batch() -> None:
    prefill = sse_answer(
        [
            event(_out("p1", index=1, logprobs=OTHER_PROMPT)),
            event(_out("p0", index=0, logprobs=PROMPT)),
            DONE,
        ]
    )
    decode = sse_answer([event(_out("d", index=i, logprobs=[])) for i in (0, 1, 0)] + [DONE])
    received = await _stream(prefill, decode)
    outs = [json.loads(text) for text in sse_events(received.body)[:-1]]
    assert [(out["index"], _logprobs(out)) for out in outs] == [
        (0, PROMPT), (1, OTHER_PROMPT), (0, PROMPT)
    ]  # fmt: skip


UNEXPECTED = {
    "no JSON": b"hello",
    "another shape": b'{"meta_info":[1]}',
    "no such field": b'{"text":"x","meta_info":{"id":"y"}}',
    "a number": b"5",
    "field of another type": b'{"meta_info":{"input_token_logprobs":"?"}}',
}


@pytest.mark.parametrize("body", UNEXPECTED.values(), ids=UNEXPECTED.keys())
async def test_an_unexpected_decode_answer_passes_unchanged(body: bytes) -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(body=compact(_out("p", logprobs=PROMPT))))
        decode.queue(answer(body=body))
        assert bytes((await router.post("/generate", BODY)).body) == body
    stream = [event("?"), b"data: " + body + b"\n\n", DONE]
    received = await _stream(sse_answer([event(_out("p", logprobs=PROMPT)), DONE]),
                             sse_answer(stream))  # fmt: skip
    assert bytes(received.body) == b"".join(stream)


@pytest.mark.parametrize("body", UNEXPECTED.values(), ids=UNEXPECTED.keys())
async def test_an_unexpected_prefill_answer_leaves_the_decodes(body: bytes) -> None:
    async with one_pair() as (router, prefill, decode):
        prefill.queue(answer(body=body))
        decode.queue(answer(body=compact(_out("d", logprobs=OTHER_PROMPT))))
        assert json.loads((await router.post("/generate", BODY)).body) == _out(
            "d", logprobs=OTHER_PROMPT
        )


@pytest.mark.parametrize("body", [BODY, STREAM])
async def test_an_error_of_either_leg_is_answered_as_it_is(body: bytes) -> None:
    error = b'{"object":"error","message":"no"}'
    for failing in (0, 1):
        async with one_pair() as (router, *workers):
            workers[failing].queue(answer(status=400, body=error))
            received = await router.post("/generate", body)
            assert received.status == 400
            assert bytes(received.body) == error
            assert received.header("content-length") == b"%d" % len(error)


async def test_http_10_client() -> None:
    async with one_pair() as (router, prefill, decode), router.client() as client:
        prefill.queue(answer(body=compact(_out("p", logprobs=PROMPT))))
        decode.queue(answer(body=compact(_out("d", logprobs=[]))))
        await client.send(
            b"POST /generate HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
        )
        received = await client.read_response()
        assert _logprobs(json.loads(received.body)) == PROMPT
        assert received.header("transfer-encoding") is None


async def test_a_decode_that_dies_midway_ends_the_stream_with_an_error_event() -> None:
    events = [event(_out(f"d{i}", logprobs=[])) for i in range(3)]
    decode = cut_body(sse_answer([*events, DONE]), 3 * (len(events[0]) + 6) - 20, Ending.RESET)
    received = await _stream(sse_answer([event(_out("p", logprobs=PROMPT)), DONE]), decode)
    outs = [json.loads(text) for text in sse_events(received.body)]
    assert [_logprobs(out) for out in outs[:2]] == [PROMPT] * 2
    assert outs[2]["error"]["code"] == "kv_transfer_failed"
    assert len(outs) == 3
    assert received.is_complete
