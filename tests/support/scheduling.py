"""A scheduler whose devices take a millisecond per prompt token, and words to talk to it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import Dispatch, RequestFacts, WorkerFacts
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


def plain_models(transfer_s: float | None = None) -> LatencyModels:
    """A millisecond per new prompt token; decode steps of 10 ms and 1 ms per running request.

    A hand-off takes `transfer_s` whatever the prompt; None: what is assumed at first.
    """
    transfer = {}
    if transfer_s is not None:
        transfer = {"transfer_s": transfer_s, "transfer_s_per_byte": _NEXT_TO_NOTHING}
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
            **transfer,
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
    models: LatencyModels | None = None,
) -> Scheduler:
    config = replace(config or SchedulerConfig(), prefix_grain_tokens=1.0)
    scheduler = Scheduler(config, models or plain_models())
    for worker_id, role in workers:
        scheduler.add_worker(worker(worker_id, role, kv_capacity_tokens))
    return scheduler


def dispatched(scheduler: Scheduler, now_s: float) -> list[Dispatch]:
    """What it decides, where nothing but dispatches is expected."""
    actions = scheduler.decide(now_s)
    found = [action for action in actions if isinstance(action, Dispatch)]
    assert found == actions
    return found


def request(
    request_id: str,
    num_prompt_tokens: int = 100,
    *,
    at_s: float = 0.0,
    ttft_s: float = math.inf,
    tpot_s: float = math.inf,
    e2e_s: float = math.inf,
    max_output_tokens: int | None = 100,
    block_digests: Sequence[int] = (),
    is_prefill_told: bool = True,
    avoided_ids: Iterable[str] = (),
    class_name: str = "chat",
    tenant: str = "",
) -> RequestFacts:
    return RequestFacts(
        request_id=request_id,
        class_name=class_name,
        arrived_at_s=at_s,
        slo=Slo(ttft_s=ttft_s, tpot_s=tpot_s, e2e_s=e2e_s),
        num_prompt_tokens=num_prompt_tokens,
        max_output_tokens=max_output_tokens,
        block_digests=block_digests,
        block_tokens=10.0,
        is_prefill_told=is_prefill_told,
        avoided_ids=frozenset(avoided_ids),
        tenant=tenant,
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
    made.service_s = service_s
    made.prefill_s = service_s
    return made
