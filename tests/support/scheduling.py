"""A scheduler whose devices take a millisecond per prompt token, and words to talk to it."""

import math
from collections.abc import Iterable, Sequence

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import RequestFacts, WorkerFacts
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role

MARGIN_S = SchedulerConfig().deadline_margin_s
LOOKAHEAD_S = SchedulerConfig().lookahead_s
_NEXT_TO_NOTHING = 1e-15

UNIFIED = (("u0", Role.REGULAR), ("u1", Role.REGULAR))
PAIRS = (
    ("p0", Role.PREFILL),
    ("p1", Role.PREFILL),
    ("d0", Role.DECODE),
    ("d1", Role.DECODE),
)


def plain_models() -> LatencyModels:
    """A millisecond per new prompt token; decode steps of 10 ms and 1 ms per running request."""
    return LatencyModels(
        LatencyPrior(
            prefill_s=_NEXT_TO_NOTHING,
            prefill_s_per_token_below_knee=1e-3,
            prefill_s_per_token=1e-3,
            prefill_s_per_pair=_NEXT_TO_NOTHING,
            decode_s=10e-3,
            decode_s_per_running=1e-3,
            decode_s_per_context_token=_NEXT_TO_NOTHING,
            decode_s_saturating=_NEXT_TO_NOTHING,
        )
    )


def worker(
    worker_id: str, role: Role = Role.REGULAR, kv_capacity_tokens: int = 1_000_000
) -> WorkerFacts:
    return WorkerFacts(worker_id=worker_id, role=role, kv_capacity_tokens=kv_capacity_tokens)


def plain_scheduler(
    workers: Iterable[tuple[str, Role]],
    config: SchedulerConfig | None = None,
    kv_capacity_tokens: int = 1_000_000,
) -> Scheduler:
    scheduler = Scheduler(config or SchedulerConfig(), plain_models())
    for worker_id, role in workers:
        scheduler.add_worker(worker(worker_id, role, kv_capacity_tokens))
    return scheduler


def request(
    request_id: str,
    num_prompt_tokens: int = 100,
    *,
    at_s: float = 0.0,
    ttft_s: float = math.inf,
    tpot_s: float = math.inf,
    max_output_tokens: int | None = 100,
    block_digests: Sequence[int] = (),
    is_prefill_told: bool = True,
) -> RequestFacts:
    return RequestFacts(
        request_id=request_id,
        class_name="chat",
        arrived_at_s=at_s,
        slo=Slo(ttft_s=ttft_s, tpot_s=tpot_s),
        num_prompt_tokens=num_prompt_tokens,
        max_output_tokens=max_output_tokens,
        block_digests=block_digests,
        block_tokens=10.0,
        is_prefill_told=is_prefill_told,
    )


def entry(
    sequence: int = 0,
    *,
    deadline_s: float = 10.0,
    service_s: float = 1.0,
    num_prompt_tokens: int = 100,
    num_output_tokens: int = 100,
    tpot_s: float = math.inf,
    block_digests: Sequence[int] = (),
) -> Entry:
    """An entry as the scheduler would hold it."""
    facts = request(f"r{sequence}", num_prompt_tokens, tpot_s=tpot_s, block_digests=block_digests)
    made = Entry(facts, sequence, deadline_s, num_output_tokens)
    made.service_s = made.prefill_s = service_s
    return made
