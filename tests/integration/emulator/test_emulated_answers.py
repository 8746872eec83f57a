"""What an emulated worker says, whole and as a stream."""

import json
from typing import Any

import pytest
from support.ask import Json, post, stream
from support.emulators import MODEL, url_of

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.worker import Worker

SAMPLING: Json = {"max_new_tokens": 6, "ignore_eos": True}
GENERATE: Json = {"text": "the quick brown fox", "sampling_params": SAMPLING}
CHAT: Json = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "the quick brown fox"}],
    "max_tokens": 6,
    "ignore_eos": True,
}
COMPLETION: Json = {
    "model": MODEL, "prompt": "the quick brown fox", "max_tokens": 6, "ignore_eos": True,
}  # fmt: skip


async def events_of(url: str, path: str, body: Json) -> list[Any]:
    """Return the events of a stream, parsed; the last one must end it."""
    found = [event async for event in stream(url, path, {**body, "stream": True})]
    assert found.pop() == "[DONE]"
    return [json.loads(event) for event in found]


async def test_generate(worker: Worker) -> None:
    answer = await post(url_of(worker), "/generate", {**GENERATE, "rid": "mine"})
    assert answer.status == 200
    meta = answer.body["meta_info"]
    assert answer.body["text"] == tokens.decode(tokens.encode_ids(answer.body["output_ids"]))
    assert meta["id"] == "mine"
    assert meta["prompt_tokens"] == 5
    assert meta["completion_tokens"] == len(answer.body["output_ids"]) == 6
    assert meta["finish_reason"] == {"type": "length", "length": 6}
    assert meta["e2e_latency"] >= 6 * 0.002


async def test_every_endpoint_says_the_same_of_the_same_prompt(worker: Worker) -> None:
    url = url_of(worker)
    text = (await post(url, "/generate", GENERATE)).body["text"]
    chat = (await post(url, "/v1/chat/completions", CHAT)).body
    completion = (await post(url, "/v1/completions", COMPLETION)).body
    ids = tokens.token_ids(tokens.encode("the quick brown fox"))
    by_ids = await post(url, "/generate", {"input_ids": ids, "sampling_params": SAMPLING})
    assert chat["choices"][0]["message"]["content"] == text
    assert completion["choices"][0]["text"] == text
    assert by_ids.body["text"] == text
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    for answer in (chat, completion):
        assert {name: answer["usage"][name] for name in usage} == usage
        assert answer["choices"][0]["finish_reason"] == "length"


async def test_each_token_of_generate_is_an_event_with_all_so_far(worker: Worker) -> None:
    whole = (await post(url_of(worker), "/generate", GENERATE)).body
    events = await events_of(url_of(worker), "/generate", GENERATE)
    assert [len(event["output_ids"]) for event in events] == [1, 2, 3, 4, 5, 6]
    assert all(whole["text"].startswith(event["text"]) for event in events)
    assert events[-1]["output_ids"] == whole["output_ids"]
    reasons = [event["meta_info"]["finish_reason"] for event in events]
    assert reasons == [None] * 5 + [{"type": "length", "length": 6}]


async def test_chat_streams_a_role_then_a_token_each_then_the_reason(worker: Worker) -> None:
    whole = (await post(url_of(worker), "/v1/chat/completions", CHAT)).body
    events = await events_of(url_of(worker), "/v1/chat/completions", CHAT)
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0]["role"] == "assistant"
    contents = [delta["content"] for delta in deltas[1:-1]]
    assert len(contents) == 6
    assert "".join(contents) == whole["choices"][0]["message"]["content"]
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert len({event["id"] for event in events}) == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)]
)
async def test_usage_comes_last_when_asked_for(worker: Worker, path: str, body: Json) -> None:
    asked = {**body, "stream_options": {"include_usage": True}}
    last = (await events_of(url_of(worker), path, asked))[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 6
    assert "usage" not in (await events_of(url_of(worker), "/v1/chat/completions", CHAT))[-1]


async def test_usage_so_far_comes_with_each_token(worker: Worker) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = await events_of(
        url_of(worker), "/v1/chat/completions", {**CHAT, "stream_options": options}
    )
    so_far = [event["usage"]["completion_tokens"] for event in events[1:-2]]
    assert so_far == [1, 2, 3, 4, 5, 6]


async def test_a_batch_is_answered_in_order(worker: Worker) -> None:
    body = {"text": ["one", "two", "three"], "sampling_params": SAMPLING, "rid": "b"}
    answers = (await post(url_of(worker), "/generate", body)).body
    alone = [
        (await post(url_of(worker), "/generate", {**GENERATE, "text": text})).body["text"]
        for text in ("one", "two", "three")
    ]
    assert [answer["text"] for answer in answers] == alone
    assert [answer["meta_info"]["id"] for answer in answers] == ["b_0", "b_1", "b_2"]
    events = await events_of(url_of(worker), "/generate", body)
    ends = {e["index"]: e["text"] for e in events if e["meta_info"]["finish_reason"]}
    assert [ends[at] for at in range(3)] == alone


async def test_samples_of_a_prompt_share_its_tokens_in_the_usage(worker: Worker) -> None:
    body = (await post(url_of(worker), "/v1/chat/completions", {**CHAT, "n": 3})).body
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"]["prompt_tokens"] == 5
    assert body["usage"]["completion_tokens"] == 18


@pytest.mark.parametrize(
    ("fields", "num", "reason"),
    [
        ({"sampling_params": {"max_new_tokens": 3}}, 3, "length"),
        ({"sampling_params": {"max_new_tokens": 2000}}, None, "stop"),
        ({"sampling_params": SAMPLING, "emulated_output_tokens": 2}, 2, "stop"),
        ({"sampling_params": SAMPLING, "emulated_output_tokens": 6}, 6, "length"),
        ({"sampling_params": {"max_new_tokens": 0}}, 0, "length"),
    ],
)
async def test_lengths_of_the_output(
    worker: Worker, fields: Json, num: int | None, reason: str
) -> None:
    bodies = [
        (await post(url_of(worker), "/generate", {"text": "hello", **fields})).body
        for _ in range(2)
    ]
    assert len(bodies[0]["output_ids"]) == len(bodies[1]["output_ids"])
    assert bodies[0]["meta_info"]["finish_reason"]["type"] == reason
    if num is None:
        assert 16 <= len(bodies[0]["output_ids"]) <= 512
    else:
        assert len(bodies[0]["output_ids"]) == num


async def test_a_batch_may_name_each_length(worker: Worker) -> None:
    body = {
        "text": ["a", "b"], "sampling_params": SAMPLING, "emulated_output_tokens": [1, 5],
    }  # fmt: skip
    answers = (await post(url_of(worker), "/generate", body)).body
    assert [answer["meta_info"]["completion_tokens"] for answer in answers] == [1, 5]


async def test_log_probabilities_of_generate(worker: Worker) -> None:
    body = {
        **GENERATE, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2,
        "token_ids_logprob": [3, 4], "return_text_in_logprobs": True,
    }  # fmt: skip
    meta = (await post(url_of(worker), "/generate", body)).body["meta_info"]
    prompt = meta["input_token_logprobs"]
    assert prompt[0][0] is None
    assert "".join(text for _, _, text in prompt) == "the quick brown fox"
    assert len(meta["output_token_logprobs"]) == meta["output_token_logprobs_length"] == 6
    assert all(value < 0 for value, _, _ in meta["output_token_logprobs"])
    assert [len(row) for row in meta["output_top_logprobs"]] == [2] * 6
    assert [row[0][1] for row in meta["output_top_logprobs"]] == [
        token_id for _, token_id, _ in meta["output_token_logprobs"]
    ]
    assert [entry[1] for entry in meta["output_token_ids_logprobs"][0]] == [3, 4]
    default = {**GENERATE, "return_logprob": True}
    meta = (await post(url_of(worker), "/generate", default)).body["meta_info"]
    assert meta["input_token_logprobs"] == []


async def test_echo_repeats_the_prompt_and_its_log_probabilities(worker: Worker) -> None:
    body = {**COMPLETION, "echo": True, "logprobs": 1}
    choice = (await post(url_of(worker), "/v1/completions", body)).body["choices"][0]
    assert choice["text"].startswith("the quick brown fox")
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert choice["logprobs"]["token_logprobs"][0] is None
    events = await events_of(url_of(worker), "/v1/completions", body)
    parts = [event["choices"][0] for event in events]
    assert "".join(part["text"] for part in parts) == choice["text"]
    told = [token for part in parts for token in part["logprobs"]["tokens"]]
    assert told == choice["logprobs"]["tokens"]


async def test_log_probabilities_of_chat(worker: Worker) -> None:
    body = {**CHAT, "logprobs": True, "top_logprobs": 2}
    choice = (await post(url_of(worker), "/v1/chat/completions", body)).body["choices"][0]
    items = choice["logprobs"]["content"]
    assert "".join(item["token"] for item in items) == choice["message"]["content"]
    assert [len(item["top_logprobs"]) for item in items] == [2] * 6


async def test_a_prompt_that_repeats_another_s_beginning_is_cached(worker: Worker) -> None:
    long = "word" * 100
    for text, cached in ((long, 0), (long + "more", 96)):
        body = {"text": text, "sampling_params": SAMPLING}
        meta = (await post(url_of(worker), "/generate", body)).body["meta_info"]
        assert meta["cached_tokens"] == pytest.approx(cached, abs=4)


async def test_steps_take_their_time(worker: Worker) -> None:
    body = {**GENERATE, "sampling_params": {"max_new_tokens": 101, "ignore_eos": True}}
    answer = await post(url_of(worker), "/generate", body)
    assert 0.2 <= answer.body["meta_info"]["e2e_latency"] < 0.6
