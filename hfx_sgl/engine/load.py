"""What an engine says of itself: the counters that a real server reports at `/v1/loads`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """One snapshot. Fields carry the names and meanings of SGLang 0.5.23's `/v1/loads`."""

    num_running_reqs: int
    num_waiting_reqs: int
    num_waiting_uncached_tokens: int
    num_used_tokens: int
    num_total_tokens: int
    num_active_tokens: int
    num_prealloc_ready_tokens: int
    max_total_num_tokens: int
    max_running_requests: int
    token_usage: float
    gen_throughput: float
    cache_hit_rate: float
    utilization: float
    total_prefill_uncached_tokens: int
    total_prefill_busy_us: int
    decode_moments: tuple[float, ...]
    """Sums over decode steps since the start: n, b, t_us, b^2, b*t_us, generated."""
    prefill_bootstrap_queue_reqs: int
    prefill_inflight_queue_reqs: int
    decode_prealloc_queue_reqs: int
    decode_transfer_queue_reqs: int
    decode_retracted_queue_reqs: int
    kv_transfer_speed_gb_s: float
    kv_transfer_latency_ms: float
    num_retractions: int
    """Since the start; `/metrics` reports it."""
    num_finished: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
