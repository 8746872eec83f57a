"""Log probabilities: the prompt's come from the prefill, the output's from the decode."""

import json
from typing import Any

import pytest
from support.ask import Json, post, stream

BODY: Json = {
    "text": "the quick brown fox jumps",
    "sampling_params": {"temperature": 0, "max_new_tokens": 6, "ignore_eos": True},
    "return_logprob": True,
    "logprob_start_len": 0,
}


def assert_close(ours: list[list[Any]], theirs: list[list[Any]]) -> None:
    """Compare lists of [logprob or None, token id, text]; the engines batch differently."""
    assert [entry[1] for entry in ours] == [entry[1] for entry in theirs]
    for (a, *_), (b, *_) in zip(ours, theirs, strict=True):
        assert a == b or a == pytest.approx(b, abs=1e-2)


async def test_whole_answer_has_both(pd_url: str, direct_url: str) -> None:
    ours = (await post(pd_url, "/generate", BODY)).body["meta_info"]
    theirs = (await post(direct_url, "/generate", BODY)).body["meta_info"]
    assert len(theirs["input_token_logprobs"]) > 3
    assert_close(ours["input_token_logprobs"], theirs["input_token_logprobs"])
    assert_close(ours["output_token_logprobs"], theirs["output_token_logprobs"])


async def test_every_prompt_of_a_batch_has_its_own(pd_url: str, direct_url: str) -> None:
    body = {**BODY, "text": ["the quick brown", "hello world, how are you"]}
    ours = (await post(pd_url, "/generate", body)).body
    theirs = (await post(direct_url, "/generate", body)).body
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a["meta_info"]["input_token_logprobs"], b["meta_info"]["input_token_logprobs"])


async def test_stream_has_both(pd_url: str, direct_url: str) -> None:
    events = [e async for e in stream(pd_url, "/generate", {**BODY, "stream": True})]
    assert events[-1] == "[DONE]"
    ours = json.loads(events[-2])["meta_info"]
    theirs = (await post(direct_url, "/generate", BODY)).body["meta_info"]
    assert_close(ours["input_token_logprobs"], theirs["input_token_logprobs"])


@pytest.mark.parametrize("prompt", ["the quick brown", ["the quick", "hello world, you"]])
async def test_completions_that_echo_have_the_prompt_s(
    pd_url: str, direct_url: str, prompt: Any
) -> None:
    body = {
        "model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0,
        "ignore_eos": True, "echo": True, "logprobs": 1,
    }  # fmt: skip
    ours = (await post(pd_url, "/v1/completions", body)).body["choices"]
    theirs = (await post(direct_url, "/v1/completions", body)).body["choices"]
    for a, b in zip(ours, theirs, strict=True):
        assert a["text"] == b["text"]
        assert a["logprobs"]["tokens"] == b["logprobs"]["tokens"]
        assert len(a["logprobs"]["token_logprobs"]) == len(b["logprobs"]["token_logprobs"])
        assert a["logprobs"]["token_logprobs"][1:] == pytest.approx(
            b["logprobs"]["token_logprobs"][1:], abs=1e-2
        )


async def test_a_stream_that_echoes_has_the_prompt_s_once(pd_url: str, direct_url: str) -> None:
    body = {
        "model": "tiny", "prompt": "the quick brown", "max_tokens": 4, "temperature": 0,
        "ignore_eos": True, "echo": True, "logprobs": 1, "stream": True,
    }  # fmt: skip
    streams = []
    for url in (pd_url, direct_url):
        events = [
            json.loads(e) async for e in stream(url, "/v1/completions", body) if e != "[DONE]"
        ]
        logprobs = [event["choices"][0]["logprobs"] for event in events if event["choices"]]
        streams.append([token for part in logprobs if part for token in part["tokens"]])
    assert streams[0] == streams[1]


async def test_chat_logprobs_pass_through(pd_url: str, direct_url: str) -> None:
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello world"}],
        "max_tokens": 5, "temperature": 0, "ignore_eos": True, "logprobs": True,
    }  # fmt: skip
    ours = (await post(pd_url, "/v1/chat/completions", body)).body["choices"][0]["logprobs"]
    theirs = (await post(direct_url, "/v1/chat/completions", body)).body["choices"][0]["logprobs"]
    assert [item["token"] for item in ours["content"]] == [i["token"] for i in theirs["content"]]
    assert len(ours["content"]) == 5
