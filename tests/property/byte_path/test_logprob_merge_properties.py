import json
from typing import Any

import orjson
from hfx_router.exchange.logprob_merge import LogprobMerge
from hfx_router.exchange.logprob_places import GeneratePlaces
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuts import pieces_of

LOGPROBS = st.none() | st.lists(st.lists(st.integers(-9, 9), max_size=2), max_size=3)


@st.composite
def answers(draw: st.DrawFn, index: int | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"text": draw(st.sampled_from(["a", "\n\ndata: é", ""]))}
    if draw(st.integers(0, 5)):
        answer["meta_info"] = {"id": "r"}
        if draw(st.integers(0, 5)):
            answer["meta_info"]["input_token_logprobs"] = draw(LOGPROBS)
    if index is not None:
        answer["index"] = index
    return answer


def joined(prompt: dict[str, Any] | None, answer: dict[str, Any]) -> dict[str, Any]:
    """What the client is to see."""
    meta = answer.get("meta_info", {})
    if "input_token_logprobs" not in meta:
        return answer
    first = (prompt or {}).get("meta_info", {}).get("input_token_logprobs") or []
    own = meta["input_token_logprobs"] or []
    return {**answer, "meta_info": {**meta, "input_token_logprobs": first + own}}


@st.composite
def runs(draw: st.DrawFn, prefill: bytes, decode: bytes, *, is_streaming: bool) -> list[bytes]:
    """Everything that comes out, for some cut of both answers in some interleaving."""
    steps = {
        "prefill": [*draw(pieces_of(prefill)), None],
        "decode": [*draw(pieces_of(decode)), None],
    }
    out: list[bytes] = []
    merge = LogprobMerge(is_streaming=is_streaming, places=GeneratePlaces(), emit=out.append)
    while steps:
        side = draw(st.sampled_from(sorted(steps)))
        piece = steps[side].pop(0)
        if piece is not None:
            (merge.feed_prefill if side == "prefill" else merge.feed_decode)(piece)
        else:
            del steps[side]
            (merge.prefill_done if side == "prefill" else merge.decode_done)()
        assert not out or "prefill" not in steps, "nothing comes out before the prefill is done"
        assert merge.is_done is (not steps)
    return out


@given(st.data(), st.integers(0, 3), st.booleans())
@settings(max_examples=100, deadline=None)
def test_bodies_are_merged_alike_however_they_come(
    data: st.DataObject, num_prompts: int, is_batch: bool
) -> None:
    if is_batch:
        prompts = [data.draw(answers()) for _ in range(num_prompts)]
        decoded: Any = [data.draw(answers()) for _ in range(data.draw(st.integers(0, 3)))]
        padded = [*prompts, *([None] * len(decoded))]
        expected: Any = [joined(*pair) for pair in zip(padded, decoded, strict=False)]
        prefill = json.dumps(prompts).encode()
    else:
        prompt = data.draw(answers())
        decoded = data.draw(answers())
        expected = joined(prompt, decoded)
        prefill = json.dumps(prompt).encode()
    body = json.dumps(decoded).encode()
    out = b"".join(data.draw(runs(prefill, body, is_streaming=False)))
    assert orjson.loads(out) == expected
    if "input_token_logprobs" not in body.decode():
        assert out == body, "untouched"


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_streams_are_merged_alike_however_they_come(data: st.DataObject) -> None:
    prompts = {index: data.draw(answers(index)) for index in range(data.draw(st.integers(0, 2)))}
    order = data.draw(st.lists(st.integers(0, 2), max_size=5))
    decoded = [data.draw(answers(index)) for index in order]
    prefill, decode = (
        b"".join(b"data: " + json.dumps(answer).encode() + b"\n\n" for answer in stream)
        + b"data: [DONE]\n\n"
        for stream in (prompts.values(), decoded)
    )
    out = b"".join(data.draw(runs(prefill, decode, is_streaming=True)))
    *events, done, rest = out.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    assert [orjson.loads(event.removeprefix(b"data: ")) for event in events] == [
        joined(prompts.get(answer["index"]), answer) for answer in decoded
    ]


ODD = st.recursive(
    st.none() | st.integers(-3, 3) | st.just("x"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["meta_info", "input_token_logprobs", "index"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.data(), ODD | st.binary(max_size=8), ODD | st.binary(max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_nothing_that_workers_say_is_too_odd(
    data: st.DataObject, prefill: Any, decode: Any, is_streaming: bool
) -> None:
    texts = [
        one if isinstance(one, bytes) else json.dumps(one).encode() for one in (prefill, decode)
    ]
    if is_streaming:
        texts = [b"data: %b\n\n" % text for text in texts]
    out = b"".join(data.draw(runs(*texts, is_streaming=is_streaming)))
    if b"input_token_logprobs" not in texts[1]:
        assert out == texts[1]
