"""What the scheduler is told, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from hfx_sgl.slo import Slo
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
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
    is_prefill_told: bool = True
    """Whether `prefill_over` will be called once its prompt is computed. A unified worker that
    answers in one piece does not show when that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One worker as it reports itself."""

    worker_id: str
    role: Role
    kv_capacity_tokens: int
    """`max_total_num_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
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
