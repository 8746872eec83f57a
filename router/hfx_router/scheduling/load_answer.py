"""Reads a worker's answer to `/v1/loads`. Pure; the wire's units end here."""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from hfx_sgl.policy.scheduler.facts import WorkerReport

LOADS_PATH = "/v1/loads?include=core,disagg"
"""Counters, and what prefill servers say of their last KV transfer."""

_NUM_MOMENTS = 6
_BYTES_PER_GB = 2**30
"""SGLang divides bytes by 1024 three times and calls that GB."""

_Count = Annotated[int, Meta(ge=0)]
_Sum = Annotated[float, Meta(ge=0)]


class Disaggregation(Struct, frozen=True):
    """The last KV transfer of a prefill server; zeros before the first, and elsewhere."""

    kv_transfer_speed_gb_s: _Sum = 0.0
    kv_transfer_latency_ms: _Sum = 0.0


class RankLoad(Struct, frozen=True):
    """One data-parallel rank, in the words of SGLang 0.5.23. What is not needed is not read."""

    num_running_reqs: _Count
    num_active_tokens: _Count
    total_prefill_uncached_tokens: _Count
    total_prefill_busy_us: _Count
    dp_rank: int = 0
    decode_moments: Annotated[tuple[_Sum, ...], Meta(min_length=_NUM_MOMENTS)] | None = None
    disaggregation: Disaggregation | None = None


class _Answer(Struct):
    loads: list[RankLoad]


class NoLoads(NamedTuple):
    """The answer is of no use."""

    reason: str


def parse_loads(body: bytes) -> tuple[RankLoad, ...] | NoLoads:
    """Return one load for each data-parallel rank that answered.

    An answer in which a counter is missing, of another type or negative is of no use as a whole:
    servers before SGLang 0.5.23 have none.
    """
    try:
        return tuple(msgspec.json.decode(body, type=_Answer).loads)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return NoLoads(str(exc))


def load_of(ranks: tuple[RankLoad, ...], dp_rank: int | None) -> WorkerReport | None:
    """Return the load of a rank, or of all together for None; None when it is not among them."""
    own = [rank for rank in ranks if dp_rank is None or rank.dp_rank == dp_rank]
    if not own:
        return None
    num_running = sum(rank.num_running_reqs for rank in own)
    num_active_tokens = sum(rank.num_active_tokens for rank in own)
    moments = [rank.decode_moments for rank in own if rank.decode_moments is not None]
    transfer_bytes, transfer_s = _last_transfer(own[0].disaggregation)
    return WorkerReport(
        num_prefill_tokens=sum(rank.total_prefill_uncached_tokens for rank in own),
        prefill_busy_s=sum(rank.total_prefill_busy_us for rank in own) / 1e6,
        decode_moments=tuple(map(sum, zip(*moments, strict=False))),
        mean_context_tokens=num_active_tokens / num_running if num_running else 0.0,
        last_transfer_bytes=transfer_bytes,
        last_transfer_s=transfer_s,
    )


def _last_transfer(section: Disaggregation | None) -> tuple[int, float]:
    """Return its bytes and how long it took, zeros when there was none."""
    if section is None:
        return 0, 0.0
    duration_s = section.kv_transfer_latency_ms / 1e3
    num_bytes = round(section.kv_transfer_speed_gb_s * _BYTES_PER_GB * duration_s)
    return (num_bytes, duration_s) if num_bytes else (0, 0.0)
