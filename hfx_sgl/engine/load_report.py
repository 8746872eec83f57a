"""Builds the report of an engine about itself, by the definitions of SGLang's load inquirer."""

from hfx_sgl.engine.batch import Batch
from hfx_sgl.engine.flow import Flow
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.steps import DecodeStretch
from hfx_sgl.types import Role


def engine_load(
    spec: EngineSpec, flow: Flow, stretch: DecodeStretch | None, now_s: float
) -> EngineLoad:
    """Return the load at an instant; the stretch under way is accounted for up to then."""
    batch = flow.batch
    receiver = flow.receiver
    bootstrap = flow.bootstrap
    counters = batch.counters if stretch is None else batch.counters.with_stretch(stretch)
    capacity = batch.store.capacity_tokens
    num_used = batch.store.num_used_tokens
    num_prealloc_tokens = receiver.prealloc.num_tokens
    num_transfer_tokens = sum(
        sequence.num_prompt_tokens for sequence in receiver.transfers.values()
    )
    num_pending = (
        batch.waiting.num_tokens
        + sum(sequence.num_prompt_tokens for sequence in bootstrap.values())
        + num_prealloc_tokens
        + sum(sequence.num_fill_tokens for sequence in receiver.retracted.values())
    )
    num_total = num_used + num_pending
    return EngineLoad(
        num_running_reqs=len(batch.running),
        num_waiting_reqs=len(batch.waiting)
        + len(bootstrap)
        + len(receiver.prealloc)
        + len(receiver.transfers)
        + len(receiver.arrived)
        + len(receiver.retracted),
        num_waiting_uncached_tokens=_num_waiting_uncached(batch, now_s),
        num_used_tokens=num_used,
        num_total_tokens=num_total,
        num_active_tokens=max(0, num_total - num_prealloc_tokens - num_transfer_tokens),
        num_prealloc_ready_tokens=num_prealloc_tokens,
        max_total_num_tokens=capacity,
        max_running_requests=spec.max_running_requests,
        token_usage=num_used / capacity,
        gen_throughput=counters.gen_throughput.at(now_s),
        cache_hit_rate=counters.hit_rate.last,
        utilization=-1.0 if flow.role is Role.PREFILL else 0.0,
        total_prefill_uncached_tokens=counters.num_prefill_tokens,
        total_prefill_busy_us=counters.prefill_busy_us,
        decode_moments=counters.decode_moments,
        prefill_bootstrap_queue_reqs=len(bootstrap),
        prefill_inflight_queue_reqs=flow.sender.num_sending,
        decode_prealloc_queue_reqs=len(receiver.prealloc),
        decode_transfer_queue_reqs=len(receiver.transfers),
        decode_retracted_queue_reqs=len(receiver.retracted),
        kv_transfer_speed_gb_s=counters.transfer_gb_s,
        kv_transfer_latency_ms=counters.transfer_ms,
        num_retractions=counters.num_retractions,
        num_finished=counters.num_finished,
        num_prompt_tokens=counters.num_prompt_tokens,
        num_cached_tokens=counters.num_cached_tokens,
        num_generated_tokens=counters.num_generated_tokens,
    )


def _num_waiting_uncached(batch: Batch, now_s: float) -> int:
    """Estimate the tokens that wait to be computed, from the recent hit rate as a server does."""
    miss_rate = 1.0 - batch.counters.hit_rate.recent(now_s)
    num_tokens = int(batch.waiting.num_tokens * miss_rate)
    chunked = batch.admission.chunked
    if chunked is not None:
        num_tokens += chunked.num_fill_tokens - chunked.num_kv_tokens
    return num_tokens
