"""`/v1/loads`: what the engine says of itself, in the words of the real server."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from hfx_sgl.emulator.failures import Json
from hfx_sgl.emulator.settings import SGLANG_VERSION, WorkerSettings
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.types import Role

SECTIONS = ("core", "memory", "spec", "lora", "disagg", "queues", "all")
MODES = {Role.REGULAR: "null", Role.PREFILL: "prefill", Role.DECODE: "decode"}
"""SGLang's `disaggregation_mode` for each role."""
_CORE = (
    "num_running_reqs", "num_waiting_reqs", "num_waiting_uncached_tokens", "num_used_tokens",
    "num_total_tokens", "num_active_tokens", "num_prealloc_ready_tokens", "max_total_num_tokens",
    "max_running_requests", "token_usage", "gen_throughput", "cache_hit_rate", "utilization",
    "total_prefill_uncached_tokens", "total_prefill_busy_us",
)  # fmt: skip
_DISAGGREGATION = (
    "prefill_bootstrap_queue_reqs", "prefill_inflight_queue_reqs", "decode_prealloc_queue_reqs",
    "decode_transfer_queue_reqs", "decode_retracted_queue_reqs", "kv_transfer_speed_gb_s",
    "kv_transfer_latency_ms",
)  # fmt: skip
_PREFIXES = {"disaggregation": "disagg"}


def loads_json(loads: Iterable[Json], settings: WorkerSettings, unix_s: float) -> Json:
    """Return the whole answer."""
    return {
        "timestamp": datetime.fromtimestamp(unix_s, UTC).isoformat(),
        "version": SGLANG_VERSION,
        "accelerator": settings.profile.device,
        "num_accelerators": settings.profile.num_devices,
        "loads": list(loads),
    }


def load_json(
    load: EngineLoad, role: Role, settings: WorkerSettings, unix_s: float, sections: set[str]
) -> Json:
    """Return the load of the only data-parallel rank; `sections` are of `SECTIONS`."""
    found: Json = {"timestamp": unix_s, "dp_rank": 0}
    found |= {name: getattr(load, name) for name in _CORE}
    # A prefill worker makes no decode steps and reports none.
    moments = None if role is Role.PREFILL else [float(value) for value in load.decode_moments]
    found["decode_moments"] = moments
    has_all = "all" in sections
    if has_all or "memory" in sections:
        found["memory"] = _memory(settings)
    if has_all or "disagg" in sections:
        found["disaggregation"] = {
            "mode": MODES[role],
            **{name: getattr(load, name) for name in _DISAGGREGATION},
        }
    if has_all or "queues" in sections:
        found["queues"] = {
            "waiting": load.num_waiting_reqs if role is Role.REGULAR else 0,
            "grammar": 0,
            "paused": 0,
            "retracted": load.decode_retracted_queue_reqs,
            "prealloc_ready": 0,
        }
    return found


def loads_prometheus(load: Json) -> str:
    """Return one load as `format=prometheus` says it."""
    lines = []
    for name, value in _flat(load):
        lines += [f"# TYPE sglang_{name} gauge", f'sglang_{name}{{dp_rank="0"}} {value}']
    return "\n".join(lines) + "\n"


def _flat(load: Json) -> Iterable[tuple[str, Any]]:
    for name, value in load.items():
        if isinstance(value, dict):
            prefix = _PREFIXES.get(name, name)
            numbers = ((k, v) for k, v in value.items() if isinstance(v, int | float))
            yield from ((f"{prefix}_{k}", v) for k, v in numbers)
        elif isinstance(value, int | float) and name != "dp_rank":
            yield name, value


def _memory(settings: WorkerSettings) -> Json:
    spec = settings.spec
    return {
        # The profile knows no weights; the KV is what its capacity weighs.
        "weight_gb": 0.0,
        "kv_cache_gb": round(spec.kv_capacity_tokens * spec.kv_bytes_per_token / 2**30, 3),
        "graph_gb": 0.0,
        "token_capacity": spec.kv_capacity_tokens,
    }
