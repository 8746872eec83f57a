import json
from typing import Any

import pytest
from hfx_router.exchange.logprob_merge import LogprobMerge
from hfx_router.exchange.logprob_places import GeneratePlaces


def answer(logprobs: Any, **other: Any) -> dict[str, Any]:
    return {"text": "a", "meta_info": {"input_token_logprobs": logprobs, "id": "r"}, **other}


def merged(prefill: bytes, decode: bytes, *, is_streaming: bool = False) -> bytes:
    out: list[bytes] = []
    merge = LogprobMerge(is_streaming=is_streaming, places=GeneratePlaces(), emit=out.append)
    merge.feed_decode(decode)
    merge.decode_done()
    assert not merge.is_done
    merge.feed_prefill(prefill)
    assert out == [], "the prefill has not finished"
    merge.prefill_done()
    assert merge.is_done
    return b"".join(out)


def events(*answers: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in answers)


def test_single() -> None:
    body = merged(
        json.dumps(answer([[-1.5, 1, None], [-0.25, 2, None]])).encode(),
        json.dumps(answer([[-3.0, 3, None]], other="ü")).encode(),
    )
    assert json.loads(body) == answer(
        [[-1.5, 1, None], [-0.25, 2, None], [-3.0, 3, None]], other="ü"
    )


@pytest.mark.parametrize("nothing", [[], None])
def test_a_decode_without_any_of_its_own(nothing: Any) -> None:
    body = merged(json.dumps(answer([[-1.5, 1]])).encode(), json.dumps(answer(nothing)).encode())
    assert json.loads(body) == answer([[-1.5, 1]])


def test_batch_is_merged_by_position() -> None:
    body = merged(
        json.dumps([answer([["p0"]]), answer([["p1"]])]).encode(),
        json.dumps([answer([["d0"]]), answer([["d1"]]), answer([["d2"]])]).encode(),
    )
    assert json.loads(body) == [
        answer([["p0"], ["d0"]]),
        answer([["p1"], ["d1"]]),
        answer([["d2"]]),
    ]


def test_what_is_no_answer_keeps_its_place_in_a_batch() -> None:
    body = merged(
        json.dumps([None, answer([["p1"]])]).encode(),
        json.dumps(["x", answer([["d1"]])]).encode(),
    )
    assert json.loads(body) == ["x", answer([["p1"], ["d1"]])]


def test_stream_is_merged_event_by_event() -> None:
    out = merged(
        events(answer([["p"]])) + b"data: [DONE]\n\n",
        events(answer([["d"]]), answer([["e"]])) + b": ping\n\ndata: [DONE]\n\n",
        is_streaming=True,
    )
    first, second, *rest = out.split(b"\n\n")
    assert json.loads(first.removeprefix(b"data: ")) == answer([["p"], ["d"]])
    assert json.loads(second.removeprefix(b"data: ")) == answer([["p"], ["e"]])
    assert rest == [b": ping", b"data: [DONE]", b""]


def test_stream_of_a_batch_is_merged_by_index() -> None:
    out = merged(
        events(answer([["p1"]], index=1), answer([["p0"]], index=0)),
        events(answer([["d0"]], index=0), answer([["d1"]], index=1), answer([["d2"]], index=2)),
        is_streaming=True,
    )
    answers = [json.loads(event.removeprefix(b"data: ")) for event in out.split(b"\n\n") if event]
    assert [one["meta_info"]["input_token_logprobs"] for one in answers] == [
        [["p0"], ["d0"]],
        [["p1"], ["d1"]],
        [["d2"]],
    ]


def test_a_stream_flows_once_the_prefill_is_done() -> None:
    out: list[bytes] = []
    merge = LogprobMerge(is_streaming=True, places=GeneratePlaces(), emit=out.append)
    merge.feed_prefill(events(answer([["p"]])))
    merge.feed_decode(b"data: {}\n\nda")
    merge.prefill_done()
    assert out == [b"data: {}\n\n"], "the complete event only"
    merge.feed_decode(b"ta: 1\n")
    merge.feed_decode(b"\n")
    assert out[1:] == [b"data: 1\n\n"]
    merge.feed_decode(b"unfinished")
    merge.decode_done()
    assert b"".join(out) == b"data: {}\n\ndata: 1\n\nunfinished"
    assert merge.is_done


GOOD = json.dumps(answer([["p"]])).encode()


@pytest.mark.parametrize(
    "decode",
    [
        b"",
        b"not json",
        b'{"text": 1.50}',
        b'{"meta_info": null, "x": 1.0}',
        b'{"meta_info": {"id": "r"}}',
        b'{"meta_info": {"input_token_logprobs": "x"}}',
        b'{"meta_info": {"input_token_logprobs": 5}}',
        b'{"meta_info": {"input_token_logprobs": {"a": 1}}}',
        b"[1, null, [ ]]",
        b'"text"',
        b'{"a": NaN}',
    ],
)
@pytest.mark.parametrize("is_streaming", [False, True])
def test_an_unexpected_answer_passes_through(decode: bytes, is_streaming: bool) -> None:
    if is_streaming:
        stream = b"data: %b\n\ndata:%b\n\n" % (decode, decode)
        assert merged(b"data: %b\n\n" % GOOD, stream, is_streaming=True) == stream
    else:
        assert merged(GOOD, decode) == decode


@pytest.mark.parametrize(
    "prefill",
    [
        b"",
        b"not json",
        b"[]",
        b"[[1]]",
        b"5",
        b'{"meta_info": {"input_token_logprobs": "x"}}',
        b'{"meta_info": {"input_token_logprobs": 5}}',
        b'{"meta_info": []}',
        b'{"index": [1], "meta_info": {"input_token_logprobs": {}}}',
    ],
)
def test_an_unexpected_prefill_adds_nothing(prefill: bytes) -> None:
    decode = json.dumps(answer([["d"]])).encode()
    assert json.loads(merged(prefill, decode)) == answer([["d"]])
    stream = merged(b"data: %b\n\n" % prefill, events(answer([["d"]])), is_streaming=True)
    assert json.loads(stream.removeprefix(b"data: ")) == answer([["d"]])
