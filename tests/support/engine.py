"""A FAKE of SGLang 0.5.23: what the engine says about itself, and the shapes its answers share.

Owns the state that tests set and the GET endpoints; knows nothing of connections.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.script import SSE_TYPE, Script, answer

Body = dict[str, Any]
CREATED_S = 1_700_000_000


@dataclass(slots=True, kw_only=True)
class EngineState:
    """What the fake engine says about itself. A test may change it while the worker runs."""

    model: str = "mock-model"
    disaggregation_mode: str = "null"
    bootstrap_port: int = 8998
    dp_size: int = 1
    version: str = "0.5.23"
    health_status: int = 200
    num_running_reqs: int = 0
    num_waiting_reqs: int = 0
    num_total_tokens: int = 0
    max_total_num_tokens: int = 16384
    token_interval_s: float = 0.0
    """Pause before every streamed event."""


def json_answer(value: object, *, status: int = 200) -> Script:
    """Return a JSON answer with a content-length."""
    return answer(status=status, body=compact(value))


def error_answer(status: int, message: str) -> Script:
    """Return an error in the flat shape that SGLang uses."""
    fields = {"message": message, "type": "Bad Request", "param": None, "code": status}
    return json_answer({"object": "error", **fields}, status=status)


def sse_answer(events: list[bytes], interval_s: float = 0.0) -> Script:
    """Return an event stream, each event in a chunk and a write of its own."""
    return answer(headers=(SSE_TYPE,), chunks=events, chunk_delay_s=interval_s)


def event(value: object) -> bytes:
    """Return one server-sent event as SGLang writes it."""
    return b"data: " + compact(value) + b"\n\n"


def compact(value: object) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def answer_get(state: EngineState, route: str) -> Script:
    """Return the answer to a GET; unknown routes give FastAPI's 404."""
    if route in ("/health", "/health_generate", "/ready"):
        return answer(status=state.health_status, headers=())
    values: dict[str, Callable[[EngineState], Body]] = {
        "/server_info": _server_info,
        "/get_server_info": _server_info,
        "/model_info": _model_info,
        "/get_model_info": _model_info,
        "/v1/models": _models,
        "/v1/loads": _loads,
    }
    if route not in values:
        return json_answer({"detail": "Not Found"}, status=404)
    return json_answer(values[route](state))


def _model_info(state: EngineState) -> Body:
    return {
        "model_path": state.model,
        "served_model_name": state.model,
        "tokenizer_path": state.model,
        "is_generation": True,
        "preferred_sampling_params": None,
        "weight_version": "default",
        "load_format": "auto",
        "disaggregation_mode": state.disaggregation_mode,
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
    }


def _server_info(state: EngineState) -> Body:
    return {
        "model_path": state.model,
        "tokenizer_path": state.model,
        "served_model_name": state.model,
        "max_total_tokens": state.max_total_num_tokens,
        "page_size": 1,
        "tp_size": 1,
        "pp_size": 1,
        "dp_size": state.dp_size,
        "load_balance_method": "round_robin",
        "disaggregation_mode": state.disaggregation_mode,
        "disaggregation_bootstrap_port": state.bootstrap_port,
        "kv_events": None,
        "max_total_num_tokens": state.max_total_num_tokens,
        "internal_states": [{} for _ in range(state.dp_size)],
        "version": state.version,
        "frontend": "python",
    }


def _models(state: EngineState) -> Body:
    model = {"id": state.model, "object": "model", "created": CREATED_S, "owned_by": "sglang"}
    return {
        "object": "list",
        "data": [{**model, "root": state.model, "parent": None, "max_model_len": 4096}],
    }


def _loads(state: EngineState) -> Body:
    return {
        "timestamp": "2026-01-01T00:00:00.000000+00:00",
        "version": state.version,
        "accelerator": None,
        "num_accelerators": 1,
        "loads": [_load(state, rank) for rank in range(state.dp_size)],
    }


def _load(state: EngineState, dp_rank: int) -> Body:
    return {
        "timestamp": float(CREATED_S),
        "dp_rank": dp_rank,
        "num_running_reqs": state.num_running_reqs,
        "num_waiting_reqs": state.num_waiting_reqs,
        "num_waiting_uncached_tokens": 0,
        "num_used_tokens": state.num_total_tokens,
        "num_total_tokens": state.num_total_tokens,
        "num_active_tokens": state.num_total_tokens,
        "num_prealloc_ready_tokens": 0,
        "max_total_num_tokens": state.max_total_num_tokens,
        "max_running_requests": 16,
        "token_usage": state.num_total_tokens / state.max_total_num_tokens,
        "gen_throughput": 0.0,
        "cache_hit_rate": 0.0,
        "utilization": 0.0,
        "total_prefill_uncached_tokens": 0,
        "total_prefill_busy_us": 0,
        "decode_moments": [0.0] * 6,
        "memory": {"weight_gb": 0.0, "kv_cache_gb": 0.0, "graph_gb": 0.0, "token_capacity": 16384},
        "disaggregation": {
            "mode": state.disaggregation_mode,
            "prefill_bootstrap_queue_reqs": 0,
            "prefill_inflight_queue_reqs": 0,
            "decode_prealloc_queue_reqs": 0,
            "decode_transfer_queue_reqs": 0,
            "decode_retracted_queue_reqs": 0,
            "kv_transfer_speed_gb_s": 0.0,
            "kv_transfer_latency_ms": 0.0,
        },
        "queues": {"waiting": 0, "grammar": 0, "paused": 0, "retracted": 0, "prealloc_ready": 0},
    }
