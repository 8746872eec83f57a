import dataclasses
import json
from typing import Any

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.loadtest.request_bytes import body_json, request_bytes
from hfx_sgl.loadtest.settings import (
    Endpoint,
    LoadSettings,
    OutputLengths,
    SloHints,
    Target,
    TokenCount,
    check_base_url,
)
from hfx_sgl.prompt import Prompt
from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.prompt_text import prompt_text

PLANNED = PlannedRequest(
    request_id="chat-1",
    class_name="chat",
    at_s=1.0,
    prompt=Prompt((5, 6), (8, 4)),
    num_output_tokens=10,
    max_output_tokens=64,
    slo=Slo(ttft_s=0.5, tpot_s=0.0125),
)
TEXT = prompt_text(PLANNED.prompt)
CHAT = LoadSettings(
    target=Target(base_url="http://h:81/p", endpoint=Endpoint.CHAT, model='m"x'),
)


def at(endpoint: Endpoint, **changes: Any) -> LoadSettings:
    target = dataclasses.replace(CHAT.target, endpoint=endpoint)
    return dataclasses.replace(CHAT, target=target, **changes)


def body_of(planned: PlannedRequest, settings: LoadSettings) -> dict[str, object]:
    body = json.loads(body_json(planned, settings))
    assert isinstance(body, dict)
    return body


def head_of(planned: PlannedRequest, settings: LoadSettings) -> dict[str, str]:
    head, _, body = request_bytes(planned, settings).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(headers["content-length"]) == len(body)
    return {"": first, **headers}


def test_chat_for_emulated_workers() -> None:
    assert body_of(PLANNED, CHAT) == {
        "model": 'm"x',
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
        "emulated_output_tokens": 10,
    }


@pytest.mark.parametrize(
    ("lengths", "changed"),
    [
        (OutputLengths.IGNORE_EOS, {"max_tokens": 10, "ignore_eos": True}),
        (OutputLengths.NATURAL, {"max_tokens": 64}),
    ],
)
def test_output_lengths_on_real_engines(lengths: OutputLengths, changed: dict[str, object]) -> None:
    body = body_of(PLANNED, at(Endpoint.COMPLETIONS, output_lengths=lengths))
    assert body == {
        "model": 'm"x',
        "prompt": TEXT,
        "stream": True,
        "stream_options": {"include_usage": True},
        **changed,
    }


def test_generate() -> None:
    assert body_of(PLANNED, at(Endpoint.GENERATE)) == {
        "text": TEXT,
        "sampling_params": {"max_new_tokens": 64},
        "stream": True,
        "emulated_output_tokens": 10,
    }
    forced = at(Endpoint.GENERATE, output_lengths=OutputLengths.IGNORE_EOS)
    assert body_of(PLANNED, forced)["sampling_params"] == {
        "max_new_tokens": 10,
        "ignore_eos": True,
    }


def test_without_usage() -> None:
    assert "stream_options" not in body_of(
        PLANNED, at(Endpoint.CHAT, token_count=TokenCount.EVENTS)
    )


def test_head() -> None:
    target = dataclasses.replace(CHAT.target, headers=(("authorization", "Bearer k"),))
    planned = dataclasses.replace(PLANNED, routing_key="session-7", priority=3)
    settings = dataclasses.replace(CHAT, target=target)
    assert head_of(planned, settings) == {
        "": "POST /p/v1/chat/completions HTTP/1.1",
        "host": "h:81",
        "content-type": "application/json",
        "content-length": str(len(body_json(planned, settings))),
        "accept": "text/event-stream",
        "x-request-id": "chat-1",
        "x-slo-ttft-ms": "500",
        "x-slo-tpot-ms": "12.5",
        "x-slo-class": "chat",
        "authorization": "Bearer k",
        "x-smg-routing-key": "session-7",
    }
    assert body_of(planned, settings)["priority"] == 3


@pytest.mark.parametrize(
    ("hints", "names"),
    [
        (SloHints.ALL, {"x-slo-ttft-ms", "x-slo-tpot-ms", "x-slo-class"}),
        (SloHints.BOUNDS, {"x-slo-ttft-ms", "x-slo-tpot-ms"}),
        (SloHints.CLASS, {"x-slo-class"}),
        (SloHints.NONE, set()),
    ],
)
def test_what_the_server_is_told_of_promises(hints: SloHints, names: set[str]) -> None:
    headers = head_of(PLANNED, dataclasses.replace(CHAT, slo_hints=hints))
    assert {name for name in headers if name.startswith("x-slo")} == names


def test_nothing_is_said_of_what_was_not_promised() -> None:
    headers = head_of(dataclasses.replace(PLANNED, slo=Slo(ttft_s=0.2)), CHAT)
    assert headers["x-slo-ttft-ms"] == "200"
    assert "x-slo-tpot-ms" not in headers


def test_the_end_to_end_bound_goes_into_the_body_with_the_others() -> None:
    planned = dataclasses.replace(PLANNED, slo=Slo(ttft_s=0.1, e2e_s=30.0))
    assert body_of(planned, CHAT)["slo"] == {"ttft_ms": 100.0, "e2e_ms": 30000.0}
    assert "slo" not in body_of(PLANNED, CHAT)
    assert "slo" not in body_of(planned, dataclasses.replace(CHAT, slo_hints=SloHints.CLASS))


@pytest.mark.parametrize("key", ["two\r\nx: y", "naïve"])
def test_a_name_that_cannot_stand_in_a_header(key: str) -> None:
    with pytest.raises(ConfigError, match="x-smg-routing-key"):
        request_bytes(dataclasses.replace(PLANNED, routing_key=key), CHAT)


@pytest.mark.parametrize(
    ("url", "port", "is_tls", "path"),
    [
        ("http://h", 80, False, "/v1/completions"),
        ("https://h", 443, True, "/v1/completions"),
        ("http://[::1]:30000/", 30000, False, "/v1/completions"),
        ("http://h:8/a/b/", 8, False, "/a/b/v1/completions"),
    ],
)
def test_base_urls(url: str, port: int, is_tls: bool, path: str) -> None:
    target = Target(base_url=check_base_url(url), endpoint=Endpoint.COMPLETIONS, model="m")
    assert (target.port, target.is_tls, target.path) == (port, is_tls, path)


@pytest.mark.parametrize(
    "url",
    ["h:80", "ftp://h", "http://", "http://h:x", "http://h/?q=1", "http://u:p@h", "http://[x"],
)
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        check_base_url(url)
