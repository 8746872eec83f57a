"""Which servers can exchange KV: a table of differences, each alone."""

import dataclasses
import json
from typing import Any

import pytest
from hfx_transfer.sglang.pairs.compatibility import judge
from hfx_transfer.sglang.pairs.facts import (
    PairingFacts,
    RouteFacts,
    RouteNotReady,
    RouteUnknown,
    ServerFacts,
    read_route,
    read_server,
)

SERVER_INFO: dict[str, Any] = {
    "served_model_name": "qwen",
    "model_path": "/models/qwen",
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "weight_version": "default",
    "version": "0.5.23",
    "disaggregation_transfer_backend": "mooncake",
    "disaggregation_decode_allocation_policy": "early",
    "page_size": 64,
    "kv_cache_dtype": "auto",
    "tp_size": 8,
    "attn_dp_size": 1,
    "attn_cp_size": 1,
    "pp_size": 1,
    "dcp_size": 1,
}
ROUTE: dict[str, Any] = {
    "attn_tp_size": 8,
    "attn_cp_size": 1,
    "dp_size": 1,
    "pp_size": 1,
    "page_size": 64,
    "kv_cache_dtype": "auto",
    "decode_allocation_policy": "early",
    "prefill_http_port": 30000,
}


def prefill(server: dict[str, Any] | None = None, route: dict[str, Any] | None = None) -> Any:
    answer = read_route(200, json.dumps(ROUTE | (route or {})).encode(), "")
    assert isinstance(answer, RouteFacts)
    return PairingFacts(server=read_server(SERVER_INFO | (server or {})), route=answer)


def decode(**server: Any) -> PairingFacts:
    return PairingFacts(server=read_server(SERVER_INFO | server))


def test_equal_servers_fit_without_a_remark() -> None:
    verdict = judge(prefill(), decode())
    assert (verdict.is_compatible, verdict.problem, verdict.notes) == (True, "", ())


@pytest.mark.parametrize(
    ("server", "route", "other", "problem"),
    [
        ({}, {}, {"page_size": 16}, "page_size: prefill 64, decode 16"),
        ({"page_size": 1}, {"page_size": 32}, {"page_size": 1}, "page_size: prefill 32, decode 1"),
        ({}, {}, {"architectures": ["Llama"]}, "architectures: prefill Qwen2ForCausalLM"),
        ({}, {}, {"model_type": "llama"}, "architectures: "),
        (
            {},
            {},
            {"served_model_name": "other", "model_path": "/models/other"},
            "served_model_name: prefill qwen, decode other",
        ),
        (
            {},
            {},
            {"disaggregation_transfer_backend": "nixl"},
            "disaggregation_transfer_backend: prefill mooncake, decode nixl",
        ),
        ({}, {}, {"kv_cache_dtype": "fp8_e5m2"}, "kv_cache_dtype: prefill auto, decode fp8_e5m2"),
        (
            {"kv_cache_dtype": "bfloat16"},
            {"kv_cache_dtype": "bfloat16"},
            {},
            "kv_cache_dtype: prefill bfloat16, decode auto",
        ),
        ({}, {"attn_tp_size": 4}, {"tp_size": 6}, "one number must divide the other"),
        ({}, {"attn_tp_size": 8}, {"tp_size": 12, "attn_dp_size": 4}, "one number must divide"),
        ({}, {"pp_size": 2}, {"pp_size": 4}, "pp_size: a decode server needs 1 or its prefill"),
        ({}, {}, {"pp_size": 2}, "pp_size: "),
        ({}, {}, {"attn_cp_size": 2}, "attn_cp_size: a decode server needs 1, not 2"),
        (
            {},
            {"decode_allocation_policy": "prefill_complete"},
            {},
            "disaggregation_decode_allocation_policy: prefill prefill_complete, decode early",
        ),
    ],
)
def test_differences_that_sglang_does_not_survive(
    server: dict[str, Any], route: dict[str, Any], other: dict[str, Any], problem: str
) -> None:
    verdict = judge(prefill(server, route), decode(**other))
    assert not verdict.is_compatible
    assert problem in verdict.problem


@pytest.mark.parametrize(
    ("server", "route", "other"),
    [
        ({}, {}, {"model_path": "/elsewhere/qwen"}),
        ({}, {}, {"served_model_name": "qwen-long"}),
        ({"disaggregation_transfer_backend": "mooncake_tcp"}, {}, {}),
        ({}, {"attn_tp_size": 4}, {"tp_size": 8}),
        ({}, {"attn_tp_size": 8}, {"tp_size": 2}),
        ({}, {"attn_tp_size": 1}, {"tp_size": 8, "attn_dp_size": 8}),
        ({}, {"pp_size": 4}, {"pp_size": 1}),
        ({}, {"pp_size": 2}, {"pp_size": 2}),
        # Both left it to the checkpoint, which asks for fp8 on both sides.
        ({}, {"kv_cache_dtype": "fp8_e4m3"}, {}),
        ({"kv_cache_dtype": "fp8_e4m3"}, {"kv_cache_dtype": "fp8_e4m3"}, {}),
        ({"kv_cache_dtype": "fp8_e4m3"}, {}, {"kv_cache_dtype": "fp8_e4m3"}),
        # The pool's pages are not the flag's with decode context parallelism.
        ({}, {"page_size": 128}, {"dcp_size": 2}),
    ],
)
def test_differences_that_are_none_or_that_sglang_bridges(
    server: dict[str, Any], route: dict[str, Any], other: dict[str, Any]
) -> None:
    assert judge(prefill(server, route), decode(**other)).problem == ""


@pytest.mark.parametrize(
    ("server", "route", "other", "note"),
    [
        ({"version": "0.5.22"}, {}, {}, "SGLang versions differ: prefill 0.5.22, decode 0.5.23"),
        ({}, {}, {"weight_version": "step-9"}, "weight versions differ"),
        ({}, {"attn_tp_size": 4}, {}, "attention is split over 4 ranks here and 8 there"),
        (
            {"kv_cache_dtype": "fp8_e4m3"},
            {"kv_cache_dtype": "fp8_e4m3"},
            {},
            "what the decode server's auto means is not told",
        ),
    ],
)
def test_what_is_worth_a_note(
    server: dict[str, Any], route: dict[str, Any], other: dict[str, Any], note: str
) -> None:
    verdict = judge(prefill(server, route), decode(**other))
    assert verdict.is_compatible
    assert any(note in one for one in verdict.notes)


def test_several_problems_are_all_told() -> None:
    verdict = judge(prefill(), decode(page_size=1, attn_cp_size=2))
    assert "page_size" in verdict.problem
    assert "attn_cp_size" in verdict.problem


def test_what_older_servers_do_not_say_is_taken_to_be_right_with_a_note() -> None:
    silent = PairingFacts(server=ServerFacts(), route_problem="answered 404")
    verdict = judge(silent, PairingFacts(server=ServerFacts()))
    assert verdict.is_compatible
    assert any("answered 404" in note for note in verdict.notes)
    assert any(note.startswith("the decode server does not tell") for note in verdict.notes)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ServerFacts)])
def test_no_single_unknown_makes_a_pair_unfit(name: str) -> None:
    known = prefill()
    hidden = dataclasses.replace(known.server, **{name: None})
    assert judge(known, PairingFacts(server=hidden)).is_compatible
    assert judge(dataclasses.replace(known, server=hidden), decode()).is_compatible


def test_servers_are_compared_where_the_bootstrap_server_does_not_tell() -> None:
    blind = PairingFacts(server=read_server(SERVER_INFO), route_problem="refused", is_met=False)
    assert "page_size" in judge(blind, decode(page_size=16)).problem
    assert "pp_size" in judge(blind, decode(pp_size=3)).problem


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"tp_size": 8, "attn_dp_size": 4, "attn_cp_size": 2}, 1),
        ({"tp_size": 8, "dp_size": 4, "enable_dp_attention": True}, 2),
        ({"tp_size": 8, "dp_size": 4, "enable_dp_attention": False}, 8),
        ({"tp_size": 8}, 8),
        ({"tp_size": "8"}, None),
        ({"tp_size": True}, None),
        ({}, None),
    ],
)
def test_ranks_that_share_attention(info: dict[str, object], expected: int | None) -> None:
    assert read_server(info).attn_tp_size == expected


NONSENSE: list[object] = [None, [], {}, -1, 0, 1.5, "", ["", 1], float("inf")]


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_of_a_server_is_nothing_said(value: object) -> None:
    facts = read_server(dict.fromkeys(SERVER_INFO, value))
    assert facts.page_size is None
    assert judge(PairingFacts(server=facts), decode()).problem.count("page_size") == 0


@pytest.mark.parametrize(
    ("status", "body", "problem", "expected"),
    [
        (503, b"1 workers registered", "answered 503", RouteNotReady(reason="answered 503")),
        (404, b"", "answered 404", RouteUnknown(reason="answered 404", has_answered=True)),
        (None, b"", "refused", RouteUnknown(reason="refused", has_answered=False)),
    ],
)
def test_answers_without_facts(
    status: int | None, body: bytes, problem: str, expected: Any
) -> None:
    assert read_route(status, body, problem) == expected


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b"\xff", b'{"page_size":'])
def test_an_answer_that_is_no_object_tells_nothing(body: bytes) -> None:
    answer = read_route(200, body, "")
    assert isinstance(answer, RouteUnknown)
    assert answer.has_answered
    assert "no JSON object" in answer.reason
