"""What comes through the router from a prefill-decode pair equals what the unified server says."""

import json
from typing import Any

import pytest
from support.ask import Json, post, stream

GREEDY = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}
CHAT: Json = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hello world, how are you?"}],
    "max_tokens": 12,
    "temperature": 0,
    "ignore_eos": True,
}
COMPLETION: Json = {
    "model": "tiny", "prompt": "the quick brown", "max_tokens": 12, "temperature": 0,
    "ignore_eos": True,
}  # fmt: skip


def output_ids(answer: Any) -> Any:
    return (
        [item["output_ids"] for item in answer]
        if isinstance(answer, list)
        else answer["output_ids"]
    )


@pytest.mark.parametrize(
    "prompt",
    [
        {"text": "the quick brown fox"},
        {"input_ids": [5, 6, 7, 8, 9, 10]},
        {"text": ["the quick", "hello world", "one two three"]},
        {"input_ids": [[5, 6, 7], [20, 21]]},
        {"text": "lazy dog. " * 60},
    ],
    ids=["text", "ids", "text batch", "ids batch", "long"],
)
async def test_generate_gives_the_same_tokens(pd_url: str, direct_url: str, prompt: Json) -> None:
    body = {**prompt, "sampling_params": GREEDY}
    through_router = await post(pd_url, "/generate", body)
    direct = await post(direct_url, "/generate", body)
    assert through_router.status == direct.status == 200
    assert output_ids(through_router.body) == output_ids(direct.body)


async def test_chat_gives_the_same_text(pd_url: str, direct_url: str) -> None:
    through_router = await post(pd_url, "/v1/chat/completions", CHAT)
    direct = await post(direct_url, "/v1/chat/completions", CHAT)
    assert through_router.status == 200
    assert through_router.body["choices"] == direct.body["choices"]
    assert through_router.body["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize("prompt", ["the quick brown", ["the quick", "hello world"]])
async def test_completions_give_the_same_text(pd_url: str, direct_url: str, prompt: Any) -> None:
    body = {**COMPLETION, "prompt": prompt}
    through_router = await post(pd_url, "/v1/completions", body)
    direct = await post(direct_url, "/v1/completions", body)
    assert through_router.status == 200
    assert through_router.body["choices"] == direct.body["choices"]


async def test_streams_carry_the_same_tokens(pd_url: str, direct_url: str) -> None:
    body = {"text": "the quick brown fox", "sampling_params": GREEDY, "stream": True}
    streamed = [event async for event in stream(pd_url, "/generate", body)]
    assert streamed[-1] == "[DONE]"
    whole = await post(direct_url, "/generate", {**body, "stream": False})
    assert json.loads(streamed[-2])["output_ids"] == whole.body["output_ids"]
    assert len(streamed) > 2


async def test_chat_stream_carries_the_same_text(pd_url: str, direct_url: str) -> None:
    events = [e async for e in stream(pd_url, "/v1/chat/completions", {**CHAT, "stream": True})]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    text = "".join(delta.get("content") or "" for delta in deltas)
    direct = await post(direct_url, "/v1/chat/completions", CHAT)
    assert text == direct.body["choices"][0]["message"]["content"]


async def test_router_in_front_of_a_unified_server_changes_nothing(
    unified_url: str, direct_url: str
) -> None:
    body = {"text": "the quick brown fox", "sampling_params": GREEDY}
    through_router = await post(unified_url, "/generate", body)
    direct = await post(direct_url, "/generate", body)
    assert through_router.body["output_ids"] == direct.body["output_ids"]
    assert through_router.body.keys() == direct.body.keys()


async def test_responses_of_a_unified_server(unified_url: str, pd_url: str) -> None:
    body = {"model": "tiny", "input": "hello", "max_output_tokens": 4}
    answer = await post(unified_url, "/v1/responses", body)
    assert answer.status == 200
    assert answer.headers["x-request-id"].startswith("resp-")
    assert answer.body["object"] == "response"
    refused = await post(pd_url, "/v1/responses", body)
    assert refused.status == 501
    assert refused.body["error"]["code"] == "not_supported"


# A router that parses bodies into OpenAI's types and writes them again loses these fields.


async def test_an_id_that_only_sglang_knows_takes_effect(pd_url: str) -> None:
    answer = await post(pd_url, "/v1/chat/completions", {**CHAT, "rid": "an-id-of-mine"})
    assert answer.body["id"] == "an-id-of-mine"


async def test_a_grammar_that_only_sglang_knows_takes_effect(pd_url: str) -> None:
    answer = await post(pd_url, "/v1/chat/completions", CHAT)
    free = answer.body["choices"][0]["message"]["content"]
    body = {**CHAT, "regex": "(yes|no)", "ignore_eos": False}
    answer = await post(pd_url, "/v1/chat/completions", body)
    assert answer.status == 200
    assert answer.body["choices"][0]["message"]["content"] in ("yes", "no")
    assert free not in ("yes", "no")


async def test_all_pairs_take_part(pd_url: str) -> None:
    body = {"text": "hello", "sampling_params": {**GREEDY, "max_new_tokens": 2}}
    pairs = set()
    for _ in range(8):
        answer = await post(pd_url, "/generate", body)
        assert answer.status == 200
        pairs.add((answer.headers["x-hfx-prefill-worker"], answer.headers["x-hfx-decode-worker"]))
    assert len({prefill for prefill, _ in pairs}) == 2
    assert len({decode for _, decode in pairs}) == 2


async def test_several_samples_of_a_prompt_are_refused_instead_of_hanging(pd_url: str) -> None:
    answer = await post(pd_url, "/v1/chat/completions", {**CHAT, "n": 2})
    assert answer.status == 400
    assert answer.body["error"]["param"] == "n"
