"""What a worker says about itself: `/server_info`, `/model_info`, `/v1/models`."""

from typing import Any

from hfx_sgl.emulator.api.loads import MODES
from hfx_sgl.emulator.api.meta import WEIGHT_VERSION
from hfx_sgl.emulator.failures import Json
from hfx_sgl.emulator.settings import SGLANG_VERSION, WorkerSettings
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.types import Role

MODEL_TYPE = "emulated"
"""`model_type` and, spelled as a class, `architectures`: no router must take it for a real one."""


def server_info(settings: WorkerSettings, load: EngineLoad) -> Json:
    """Return the server arguments that the engine model has, and how it does."""
    spec = settings.spec
    arguments: dict[str, Any] = {
        "model_path": settings.profile.model,
        "tokenizer_path": settings.profile.model,
        "served_model_name": settings.served_model_name,
        "host": settings.host,
        "port": settings.port,
        "tp_size": settings.profile.num_devices,
        "dp_size": 1,
        "pp_size": 1,
        "ep_size": 1,
        "device": "emulated",
        "context_length": spec.max_context_tokens,
        "page_size": spec.page_tokens,
        "max_running_requests": spec.max_running_requests,
        "max_queued_requests": spec.max_queued_requests,
        "max_total_tokens": spec.kv_capacity_tokens,
        "max_prefill_tokens": spec.max_prefill_tokens,
        "chunked_prefill_size": spec.chunked_prefill_tokens or -1,
        "enable_mixed_chunk": spec.has_mixed_chunk,
        "disable_radix_cache": not spec.has_prefix_cache,
        "enable_priority_scheduling": spec.has_priority,
        "disable_priority_preemption": not spec.has_preemption,
        "priority_scheduling_preemption_threshold": spec.preemption_threshold,
        "schedule_conservativeness": spec.schedule_conservativeness,
        "schedule_policy": "fcfs",
        "num_reserved_decode_tokens": spec.num_reserved_decode_tokens,
        "disaggregation_mode": MODES[settings.role],
        "disaggregation_transfer_backend": "emulated",
        "disaggregation_bootstrap_port": settings.bootstrap_port,
        "enable_pd_role_switch": settings.has_role_switch,
        "enable_metrics": True,
        "enable_cache_report": settings.reports_cache,
        "stream_interval": 1,
        "incremental_streaming_output": False,
        "weight_version": WEIGHT_VERSION,
        "is_embedding": False,
        "speculative_algorithm": None,
        "kv_events": None,
        "api_key": None if settings.api_key is None else "<redacted>",
    }
    return {
        **arguments,
        "emulated": True,
        "emulated_profile": {
            "name": settings.profile.name,
            "source": settings.profile.source,
            "device": settings.profile.device,
        },
        "emulated_kv": _kv(settings),
        "status": "ready",
        "max_total_num_tokens": spec.kv_capacity_tokens,
        "max_req_input_len": spec.max_context_tokens - 1,
        "internal_states": [{**arguments, "last_gen_throughput": load.gen_throughput}],
        "version": SGLANG_VERSION,
    }


def _kv(settings: WorkerSettings) -> Json:
    """Return what moves in a hand-off."""
    real = settings.real_kv
    if real is None:
        return {"moves": "messages", "model_bytes_per_token": settings.spec.kv_bytes_per_token}
    return {
        "moves": "real bytes",
        "backend": real.backend.value,
        "bytes_per_token": real.bytes_per_token,
        "model_bytes_per_token": settings.spec.kv_bytes_per_token,
    }


def model_info(settings: WorkerSettings, role: Role) -> Json:
    """Return what follows a role switch and a weight update in the real server."""
    return {
        "model_path": settings.profile.model,
        "served_model_name": settings.served_model_name,
        "tokenizer_path": settings.profile.model,
        "is_generation": True,
        "preferred_sampling_params": None,
        "weight_version": WEIGHT_VERSION,
        "load_format": "auto",
        "reasoning_parser": None,
        "tool_call_parser": None,
        "disaggregation_mode": MODES[role],
        "has_image_understanding": False,
        "has_audio_understanding": False,
        "model_type": MODEL_TYPE,
        "architectures": [f"{MODEL_TYPE.capitalize()}ForCausalLM"],
    }


def model_card(settings: WorkerSettings, created: int) -> Json:
    """Return the only model, as OpenAI's interface describes one."""
    return {
        "id": settings.served_model_name,
        "object": "model",
        "created": created,
        "owned_by": "sglang",
        "root": settings.served_model_name,
        "parent": None,
        "max_model_len": settings.spec.max_context_tokens,
    }


def route_info(settings: WorkerSettings) -> dict[str, object]:
    """Return what the bootstrap server's `/route` says about the pool."""
    return {
        "attn_tp_size": settings.profile.num_devices,
        "attn_cp_size": 1,
        "dp_size": 1,
        "pp_size": 1,
        "page_size": settings.spec.page_tokens,
        "kv_cache_dtype": "auto",
        "follow_bootstrap_room": True,
        "enable_dsa_cache_layer_split": False,
        "decode_allocation_policy": "early",
        "enable_kv_cache_sharding": False,
        "prefill_http_port": settings.port,
        "target_tp_rank": None,
        "target_tp_ranks": None,
        "target_cp_ranks": None,
        "target_pp_ranks": None,
        "required_dst_info_num": None,
        "required_prefill_response_num": None,
    }
