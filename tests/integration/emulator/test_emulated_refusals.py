"""Requests that cannot be served: status and shape as the real server's."""

import asyncio
from typing import Any

import aiohttp
import pytest
from support.ask import Json, get, post
from support.emulators import is_free, running_worker, url_of

from hfx_sgl.emulator.worker import Worker

SAMPLING: Json = {"max_new_tokens": 4, "ignore_eos": True}
CHAT: Json = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
LONG = "word" * 5000


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/generate", "{bad", "schema"),
        ("/generate", "[1]", "schema"),
        ("/generate", {"text": 5}, "schema"),
        ("/generate", {"text": "a", "stream": "maybe"}, "schema"),
        ("/generate", {"text": "a", "priority": "high"}, "schema"),
        ("/generate", {"text": "a", "rid": 5}, "schema"),
        ("/generate", {"input_ids": ["a"]}, "schema"),
        ("/generate", {"text": "a", "emulated_output_tokens": "x"}, "schema"),
        ("/generate", {"text": "a", "sampling_params": {"foo": 1}}, "sampling"),
        ("/generate", {"text": "a", "sampling_params": {"max_new_tokens": "a"}}, "sampling"),
        ("/generate", {"text": "a", "sampling_params": {"temperature": -1}}, "native"),
        ("/generate", {"text": "a", "sampling_params": {"max_new_tokens": -1}}, "native"),
        ("/generate", {"text": "a", "sampling_params": {"top_p": 0}}, "native"),
        ("/generate", {"text": "a", "sampling_params": {"max_new_tokens": 10**6}}, "native"),
        ("/generate", {"sampling_params": SAMPLING}, "native"),
        ("/generate", {"text": LONG, "sampling_params": SAMPLING}, "native"),
        ("/generate", {"text": "", "sampling_params": SAMPLING}, "native"),
        ("/generate", {"input_ids": [], "sampling_params": SAMPLING}, "native"),
        ("/generate", {"input_ids": [-1], "sampling_params": SAMPLING}, "native"),
        ("/generate", {"text": ["a"], "sampling_params": [SAMPLING] * 2}, "native"),
        ("/generate", {"text": "a", "emulated_output_tokens": 0}, "native"),
        ("/generate", {"text": "a", "emulated_output_tokens": 129}, "native"),
        ("/generate", {"text": ["a"], "emulated_output_tokens": [1, 2]}, "native"),
        ("/v1/chat/completions", "{bad", "schema"),
        ("/v1/chat/completions", {}, "schema"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "schema"),
        ("/v1/chat/completions", {"messages": [{"role": "x", "content": "a"}]}, "schema"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": "x"}, "schema"),
        ("/v1/chat/completions", {**CHAT, "stream_options": 1}, "schema"),
        ("/v1/chat/completions", {"messages": []}, "openai"),
        ("/v1/chat/completions", {**CHAT, "temperature": -1}, "openai"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": -1}, "openai"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 10**6}, "openai"),
        ("/v1/chat/completions", {**CHAT, "n": 0}, "openai"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": LONG}], "stream": True},
            "openai",
        ),
        ("/v1/completions", {}, "schema"),
        ("/v1/completions", {"prompt": "a", "n": 0}, "openai"),
        ("/v1/completions", {"prompt": []}, "openai"),
        ("/v1/completions", {"prompt": LONG}, "openai"),
        ("/v1/embeddings", {"input": "a"}, "openai"),
        ("/tokenize", {}, "schema"),
        ("/detokenize", {"tokens": "x"}, "schema"),
        ("/slow_down", {"forward_sleep_time": "x"}, "schema"),
        ("/pause_generation", {"mode": "zzz"}, "schema"),
        ("/pd_role_switch", {"new_role": "zzz"}, "schema"),
    ],
)
async def test_bad_bodies(worker: Worker, path: str, body: Any, shape: str) -> None:
    data = body if isinstance(body, str) else None
    async with (
        aiohttp.ClientSession() as session,
        session.post(url_of(worker) + path, data=data, json=None if data else body) as response,
    ):
        assert response.status == 400
        answer = await response.json()
    if shape == "sampling":
        assert isinstance(answer["error"], str)
    elif shape == "native":
        assert list(answer["error"]) == ["message"]
    else:
        kind = {"schema": "Bad Request", "openai": "BadRequestError"}[shape]
        assert answer == {
            "object": "error", "message": answer["message"], "type": kind, "param": None,
            "code": 400,
        }  # fmt: skip
    assert is_free(worker)


async def test_a_native_stream_tells_of_it_in_an_event(worker: Worker) -> None:
    body = {"text": LONG, "sampling_params": SAMPLING, "stream": True}
    answer = await post(url_of(worker), "/generate", body)
    assert answer.status == 200
    assert '"code":400,"retryable":false' in answer.body
    assert answer.body.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nothing", 404, "Not Found"),
        ("GET", "/get_load", 404, "Not Found"),
        ("GET", "/generate", 405, "Method Not Allowed"),
        ("POST", "/health", 405, "Method Not Allowed"),
    ],
)
async def test_unknown_paths_and_methods(
    worker: Worker, method: str, path: str, status: int, detail: str
) -> None:
    answer = await (
        get(url_of(worker), path) if method == "GET" else post(url_of(worker), path, {})
    )
    assert (answer.status, answer.body) == (status, {"detail": detail})


async def test_a_full_queue_is_a_503() -> None:
    async with running_worker(max_running_requests=1, max_queued_requests=1) as worker:
        body = {"text": "a", "sampling_params": {"max_new_tokens": 50, "ignore_eos": True}}
        answers = await asyncio.gather(*(post(url_of(worker), "/generate", body) for _ in range(4)))
        statuses = sorted(answer.status for answer in answers)
        assert statuses == [200, 200, 503, 503]
        refused = next(answer for answer in answers if answer.status == 503)
        assert (refused.body["type"], refused.body["code"]) == ("503", 503)
        chats = await asyncio.gather(
            *(
                post(url_of(worker), "/v1/chat/completions", {**CHAT, "stream": True})
                for _ in range(4)
            )
        )
        assert sum('"type":"SERVICE_UNAVAILABLE"' in answer.body for answer in chats) == 2
        assert is_free(worker)


async def test_an_id_in_use_is_refused(worker: Worker) -> None:
    body = {"text": "a", "rid": "same", "sampling_params": {**SAMPLING, "max_new_tokens": 50}}
    answers = await asyncio.gather(*(post(url_of(worker), "/generate", body) for _ in range(2)))
    assert sorted(answer.status for answer in answers) == [200, 400]


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Bearer no", 401), ("Bearer key", 200)]
)
async def test_the_key_opens_all_but_the_probes(authorization: str | None, status: int) -> None:
    async with running_worker(api_key="key") as worker:
        headers = {"authorization": authorization} if authorization else {}
        for path in ("/v1/models", "/server_info", "/v1/loads", "/emulated/faults"):
            assert (await get(url_of(worker), path, headers)).status == status, path
        body = {"text": "a", "sampling_params": SAMPLING}
        assert (await post(url_of(worker), "/generate", body, headers)).status == status
        for path in ("/health", "/ready", "/metrics"):
            assert (await get(url_of(worker), path, headers)).status == 200, path
