"""What an answer says about how it came about: finish reasons, usage, `meta_info`."""

from typing import Any

from hfx_sgl.emulator.failures import Json
from hfx_sgl.emulator.sequence import Sequence
from hfx_sgl.engine.events import FinishReason
from hfx_sgl.types import Role

WEIGHT_VERSION = "default"
EOS_TOKEN_ID = 2
"""What ends an output that ends by itself."""


def native_reason(sequence: Sequence) -> Json | None:
    """Return `finish_reason` of the native endpoint; None while it runs."""
    failure = sequence.failure
    if failure is not None:
        reason = {"type": "abort", "message": failure.message}
        return {**reason, "status_code": failure.status.value, "err_type": None}
    finished = sequence.finished
    if finished is None:
        return None
    if finished.reason is FinishReason.ABORTED:
        if sequence.num_tokens == 0 and sequence.role is Role.REGULAR:
            return {"type": "abort", "message": "Abort in waiting queue"}
        return {"type": "abort", "message": "Aborted", "status_code": None, "err_type": None}
    if sequence.role is Role.PREFILL:
        return {"type": "length", "length": 0}
    if finished.reason is FinishReason.STOP:
        return {"type": "stop", "matched": EOS_TOKEN_ID}
    return {"type": "length", "length": sequence.num_tokens}


def openai_reason(sequence: Sequence) -> tuple[str | None, int | None]:
    """Return `finish_reason` and `matched_stop` of the OpenAI endpoints."""
    reason = native_reason(sequence)
    if reason is None:
        return None, None
    return reason["type"], reason.get("matched")


def meta_info(sequence: Sequence, logprobs: Json, now_s: float, *, is_first: bool) -> Json:
    """Return `meta_info` of the native endpoint.

    Args:
        logprobs: the fields that say log probabilities.
        now_s: the worker's clock, for when the answer was sent.
        is_first: whether it is the first event of a stream.
    """
    finished = sequence.finished
    meta: Json = {"id": sequence.ask.rid, "finish_reason": native_reason(sequence)}
    if sequence.failure is not None and sequence.failure.is_early:
        return meta | _early_end(sequence, now_s)
    meta["prompt_tokens"] = sequence.ask.num_prompt_tokens
    meta["weight_version"] = WEIGHT_VERSION
    meta["num_retractions"] = finished.num_retractions if finished else 0
    meta |= _stages(sequence)
    meta |= logprobs
    meta["reasoning_tokens"] = 0
    meta["completion_tokens"] = sequence.num_tokens
    num_cached = sequence.num_cached_tokens
    meta["cached_tokens"] = num_cached
    if sequence.is_ended:
        meta["weight_versions"] = weight_versions(sequence.num_tokens)
    meta["cached_tokens_details"] = {"device": num_cached, "host": 0} if num_cached else None
    meta["dp_rank"] = None
    if sequence.is_ended:
        meta |= _end(sequence)
    if is_first or sequence.is_ended:
        meta["response_sent_to_client_ts"] = sequence.unix_s(now_s)
    return meta


def weight_versions(num_tokens: int) -> list[Json]:
    """Return which weights made which tokens: there are no others than the first ones."""
    return [{"version": WEIGHT_VERSION, "start": 0, "end": num_tokens}]


def usage(prompt_tokens: int, completion_tokens: int, num_cached: int | None) -> Json:
    """Return `usage`; `num_cached` is None unless the worker reports cache hits."""
    details = None if num_cached is None else {"cached_tokens": num_cached}
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": details,
        "reasoning_tokens": 0,
        "completion_tokens_details": None,
    }


def _stages(sequence: Sequence) -> Json:
    queue_s = sequence.finished.queue_s if sequence.finished else 0.0
    if sequence.first_token_at_s is None:
        return {"queue_time": queue_s}
    stages: Json = {}
    is_decode = sequence.role is Role.DECODE
    if not is_decode:
        stages = {"storage_prefetch_wait": 0.0, "storage_staging_wait": 0.0}
    stages["forward_entry_time"] = sequence.unix_s(sequence.received_at_s + queue_s)
    if not is_decode:
        stages["prefill_finished_time"] = sequence.unix_s(sequence.first_token_at_s)
    return {**stages, "queue_time": queue_s}


def _early_end(sequence: Sequence, now_s: float) -> Json:
    return {
        "weight_version": WEIGHT_VERSION,
        "e2e_latency": now_s - sequence.received_at_s,
        "weight_versions": weight_versions(0),
        "completion_tokens": 0,
        "response_sent_to_client_ts": sequence.unix_s(now_s),
    }


def _end(sequence: Sequence) -> dict[str, Any]:
    ended_at_s = sequence.finished_at_s or sequence.received_at_s
    first_at_s = sequence.first_token_at_s
    took_s = ended_at_s - sequence.received_at_s
    end = {
        "e2e_latency": took_s,
        "request_received_ts": sequence.unix_s(sequence.received_at_s),
        "first_token_latency": took_s
        if first_at_s is None
        else first_at_s - sequence.received_at_s,
        "api_server_dispatch_finish_ts": sequence.unix_s(sequence.received_at_s),
        "request_finished_ts": sequence.unix_s(ended_at_s),
    }
    if first_at_s is not None and sequence.num_tokens > 1 and ended_at_s > first_at_s:
        end["decode_throughput"] = (sequence.num_tokens - 1) / (ended_at_s - first_at_s)
    return end
