from dataclasses import replace
from typing import Any

import pytest

from hfx_sgl.types import Role

ROUTE = {"router_type": "http", "backend_type": "regular", "connection_mode": "http"}
STREAM = {"router_type": "http", "backend_type": "regular", "model": "default"}


def test_http_counts_by_path_and_answers_by_status(bench: Any) -> None:
    recorder = bench.recorder
    recorder.answered("/generate", False, 200, "", 0.2)
    recorder.answered("/generate", True, 200, "", 0.3)
    recorder.answered("/generate", False, 503, "no_workers", 0.1)
    recorder.controlled("GET", "/workers", 200, "", 0.001)
    recorder.controlled("POST", "/workers", 202, "", 0.001)

    assert bench.value("smg_http_requests_total", method="POST", path="/generate") == 3
    assert bench.value("smg_http_requests_total", method="GET", path="/workers") == 1
    assert bench.value("smg_http_requests_total", method="POST", path="/workers") == 1
    labels = {"method": "POST", "path": "/generate"}
    assert bench.value("smg_http_request_duration_seconds_count", **labels) == 3
    assert bench.value("smg_http_request_duration_seconds_sum", **labels) == pytest.approx(0.6)
    assert bench.value("smg_http_request_duration_seconds_bucket", **labels, le="0.1") == 1
    assert bench.value("smg_http_responses_total", status_code="200", error_code="") == 3
    assert bench.value("smg_http_responses_total", status_code="503", error_code="no_workers") == 1
    assert bench.value("smg_http_responses_total", status_code="202", error_code="") == 1


def test_own_endpoints_are_not_routed_requests(bench: Any) -> None:
    bench.recorder.controlled("GET", "/health", 200, "", 0.001)
    bench.recorder.answered("/health", False, 200, "", 0.001)
    for name in (
        "smg_router_requests_total",
        "smg_router_request_duration_seconds",
        "hfx_router_requests_total",
        "hfx_router_request_duration_seconds",
    ):
        assert bench.families()[name].samples == []
    assert bench.value("smg_http_requests_total", method="GET", path="/health") == 2


def test_request_text_never_becomes_a_label(bench: Any) -> None:
    for number in range(50):
        bench.recorder.answered(f"/nope/{number}", False, 404, "not_found", 0.001)
        bench.recorder.controlled(f"BREW{number}", f"/workers/{number}", 404, "", 0.001)
    assert bench.label_sets("smg_http_requests_total") == {
        (("method", "OTHER"), ("path", "other")),
        (("method", "OTHER"), ("path", "/workers/{worker_id}")),
    }
    assert bench.value("smg_http_requests_total", method="OTHER", path="other") == 50


def test_routed_requests_by_endpoint_and_streaming(bench: Any) -> None:
    recorder = bench.recorder
    recorder.answered("/v1/chat/completions", True, 200, "", 0.2)
    recorder.answered("/v1/chat/completions", False, 200, "", 0.1)
    recorder.answered("/v1/chat/completions", False, 400, "", 0.1)
    recorder.answered("/v1/chat/completions", False, 400, "invalid_json", 0.1)
    recorder.answered("/v1/embeddings", False, 200, "", 0.1)
    recorder.answered("/v1/classify", False, 200, "", 0.1)

    chat = {**ROUTE, "model": "default", "endpoint": "chat"}
    assert bench.value("smg_router_requests_total", **chat, streaming="true") == 1
    assert bench.value("smg_router_requests_total", **chat, streaming="false") == 2
    other = {**chat, "endpoint": "other"}
    assert bench.value("smg_router_requests_total", **other, streaming="false") == 2
    # Only what succeeded has a duration; errors have their own family.
    assert bench.value("smg_router_request_duration_seconds_count", **chat) == 2
    assert (
        bench.value("smg_router_request_errors_total", **chat, error_type="validation_error") == 1
    )


def test_pd_is_a_backend_type(full_bench: Any) -> None:
    bench = type(full_bench)(
        recorder=full_bench.recorder,
        workers=full_bench.workers,
        labels=replace(full_bench.labels, backend_type="pd"),
    )
    assert all(
        dict(labels)["backend_type"] == "pd"
        for labels in bench.label_sets("smg_router_requests_total")
    )


def test_streams_fill_the_token_families(bench: Any) -> None:
    bench.recorder.streamed("/v1/chat/completions", 0.05, 0.02, 11)
    bench.recorder.streamed("/v1/chat/completions", 0.3, None, 1)

    chat = {**STREAM, "endpoint": "chat"}
    assert bench.value("smg_router_ttft_seconds_count", **chat) == 2
    assert bench.value("smg_router_ttft_seconds_bucket", **chat, le="0.06") == 1
    assert bench.value("smg_router_tpot_seconds_sum", **chat) == pytest.approx(0.02)
    assert bench.value("smg_router_tokens_total", **chat, token_type="output") == 12
    assert bench.value("smg_router_generation_duration_seconds_sum", **chat) == pytest.approx(0.55)
    ours = {"model": "default", "endpoint": "chat"}
    assert bench.value("hfx_router_ttft_seconds_sum", **ours) == pytest.approx(0.35)
    assert bench.value("hfx_router_tpot_seconds_count", **ours) == 1


def test_attainment_by_class(bench: Any) -> None:
    for name, is_met in (("chat", True), ("chat", True), ("chat", False), ("none", False)):
        bench.recorder.judged(name, is_met)
    name = "hfx_router_slo_attained_total"
    assert bench.value(name, **{"class": "chat", "met": "true"}) == 2
    assert bench.value(name, **{"class": "chat", "met": "false"}) == 1
    assert bench.value(name, **{"class": "none", "met": "false"}) == 1


def test_outcomes_of_inference_requests(bench: Any) -> None:
    recorder = bench.recorder
    recorder.answered("/generate", False, 200, "", 0.1)
    recorder.answered("/v1/completions", False, 200, "", 0.1)
    recorder.answered("/generate", True, 499, "client_cancelled", 0.1)
    recorder.answered("/generate", False, 429, "queue_full", 0.1)
    total = "hfx_router_requests_total"
    assert bench.value(total, model="default", outcome="completed") == 2
    assert bench.value(total, model="default", outcome="cancelled") == 1
    assert bench.value(total, model="default", outcome="rejected") == 1
    labels = {"model": "default", "endpoint": "generate", "outcome": "completed"}
    assert bench.value("hfx_router_request_duration_seconds_count", **labels) == 1


def test_upstream_answers_of_all_roles_add_up(bench: Any) -> None:
    bench.recorder.upstream_answers[Role.PREFILL, 200] += 2
    bench.recorder.upstream_answers[Role.DECODE, 200] += 3
    bench.recorder.upstream_answers[Role.DECODE, 999] += 1
    name = "smg_router_upstream_responses_total"
    labels = {"router_type": "http", "error_code": ""}
    assert bench.value(name, **labels, status_code="200") == 5
    assert bench.value(name, **labels, status_code="other") == 1


def test_admission(bench: Any) -> None:
    recorder = bench.recorder
    for outcome, count in (
        ("allowed", 7),
        ("queue_full", 1),
        ("queue_deadline_exceeded", 2),
        ("rate_limited", 3),
        ("cancelled", 4),
    ):
        recorder.admissions[outcome] += count
    recorder.admission_s.observe(0.2)
    recorder.num_queued = 5
    recorder.num_inflight = 6
    recorder.num_connections = 8
    recorder.loop_lag_s.observe(0.003)

    assert bench.value("smg_http_rate_limit_total", result="allowed") == 7
    assert bench.value("smg_http_rate_limit_total", result="rejected") == 6
    assert bench.value("hfx_router_admission_queue_wait_seconds_sum") == pytest.approx(0.2)
    assert bench.value("hfx_router_admission_queue_requests") == 5
    assert bench.value("hfx_router_inflight_requests") == 6
    assert bench.value("smg_http_connections_active") == 8
    assert bench.value("hfx_router_event_loop_lag_seconds_bucket", le="0.005") == 1
    assert bench.value("hfx_router_event_loop_lag_seconds_bucket", le="0.0025") == 0


def test_the_version_is_a_label(bench: Any) -> None:
    assert bench.value("hfx_build_info", version="1.2.3") == 1


def test_retries_are_numbered_as_in_the_contract(bench: Any) -> None:
    recorder = bench.recorder
    recorder.retries["/generate", Role.DECODE] += 2
    recorder.retries["/v1/embeddings", Role.REGULAR] += 1
    recorder.retries["/v1/classify", Role.REGULAR] += 1
    recorder.retries_exhausted["/generate", Role.DECODE] += 1
    recorder.backed_off(2, 0.05)
    recorder.backed_off(3, 0.1)
    name = "smg_worker_retries_total"
    assert bench.value(name, worker_type="decode", endpoint="generate") == 2
    assert bench.value(name, worker_type="regular", endpoint="other") == 2
    name = "smg_worker_retries_exhausted_total"
    assert bench.value(name, worker_type="decode", endpoint="generate") == 1
    name = "smg_worker_retry_backoff_seconds_sum"
    assert bench.value(name, attempt="1") == pytest.approx(0.05)
    assert bench.value(name, attempt="2") == pytest.approx(0.1)
    assert bench.value(name, attempt="3") is None
