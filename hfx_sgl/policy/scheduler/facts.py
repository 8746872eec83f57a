"""What the scheduler is told, and what it answers.

What is made for each request is a `Struct`. Where it is made often it is made by position: that
takes a twentieth of the time of a frozen dataclass, and a tenth of the same with keywords. None is
reachable from itself, so that the collector need not look at them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import Struct

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.scheduler.decision import Decision
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role


class RequestFacts(Struct, frozen=True, gc=False):
    """One request as its router knows it on arrival."""

    request_id: str
    class_name: str
    arrived_at_s: float
    slo: Slo
    num_prompt_tokens: int
    """An estimate, at least 1."""
    max_output_tokens: int | None = None
    """What the client allows; None: unknown."""
    block_digests: Sequence[int] = ()
    """See `policy.prefix_index.block_digests`."""
    block_tokens: float = 32.0
    """How many tokens one of these blocks stands for."""
    known_hit_tokens: Mapping[str, int] | None = None
    """How many tokens of the prompt workers had cached on arrival, by their own word; says nothing
    about workers that are not in it. See `policy.estimates.kv_blocks`."""
    is_prefill_told: bool = True
    """Whether `prefill_over` will be called once its prompt is computed. A unified worker that
    answers in one piece does not show when that was."""
    tenant: str = ""
    """Whose request it is, for fairness between tenants; empty: nobody's in particular."""
    avoided_ids: frozenset[str] = frozenset()
    """Workers where it has failed: used again only when no other can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One worker as it reports itself."""

    worker_id: str
    role: Role
    kv_capacity_tokens: int
    """`max_total_num_tokens`."""
    models: LatencyModels | None = None
    """Of its class; None: those of the scheduler."""


class Dispatch(Struct, frozen=True, gc=False):
    """Send this request, at once."""

    request_id: str
    worker_id: str
    """Who answers the client."""
    prefill_worker_id: str | None
    """The prefill worker, with PD disaggregation."""
    is_on_time: bool
    """Whether its first token is expected within its promise."""
    predicted_prefill_s: float
    """How long its prompt will take once it is begun."""
    num_hit_tokens: int
    """Prompt tokens expected in the worker's prefix cache."""
    priority: int
    """For engines that schedule by it: the higher, the sooner."""
    decision: Decision
    """Why, for people."""


class Rejection(Struct, frozen=True, gc=False):
    """Send this request away: its promise cannot be kept, and it is not to be served without."""

    request_id: str
    retry_after_s: float
    """When a request like it could be on time, if nothing else arrives; `math.inf`: never, an idle
    worker would be late, too."""
    decision: Decision


class Recall(Struct, frozen=True, gc=False):
    """Take this request back from its workers, who have not begun it. It waits again."""

    request_id: str
    decision: Decision


Action = Dispatch | Rejection | Recall


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What a worker says of itself at `/v1/loads`; sums count since it started."""

    num_prefill_tokens: int
    """`total_prefill_uncached_tokens`."""
    prefill_busy_s: float
    """`total_prefill_busy_us`."""
    decode_moments: Sequence[float]
    mean_context_tokens: float
    """Context of one running request, a mean; 0 when none runs."""
    last_transfer_bytes: int = 0
    """KV of the last hand-off of a prefill worker; 0: there was none."""
    last_transfer_s: float = 0.0
    """How long that took."""
