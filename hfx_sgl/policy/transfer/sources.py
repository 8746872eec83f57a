"""From which running instance weights are best taken: who is able to, in which order, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, within
from hfx_sgl.policy.transfer.config import SourceConfig
from hfx_sgl.types import Role


class Locality(StrEnum):
    """How far a source is away."""

    SAME_HOST = "same_host"
    SAME_RACK = "same_rack"
    ELSEWHERE = "elsewhere"


class Refusal(StrEnum):
    """Why a candidate cannot be a source; also a metric label."""

    OTHER_MODEL = "other_model"
    """It holds other weights, or the same in another format."""
    OTHER_LAYOUT = "other_layout"
    """It holds another part of them: other parallel sizes, or another rank."""
    OTHER_GENERATION = "other_generation"
    """It holds them as they were before or after an update."""
    NO_LEASE_FREE = "no_lease_free"
    """As many as it allows pull from it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which weights, and which part of them. Two sides can exchange bytes when all is equal."""

    model_hash: str
    """Names, dtypes and shapes together with what the model is; never a path."""
    tensor_parallel_size: int = 1
    tensor_parallel_rank: int = 0
    pipeline_parallel_size: int = 1
    pipeline_parallel_rank: int = 0
    expert_parallel_size: int = 1
    expert_parallel_rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A running instance, as it was seen last."""

    source_id: str
    host_id: str
    layout: Layout
    generation: int
    """Counts the updates of its weights."""
    role: Role = Role.REGULAR
    rack_id: str | None = None
    """None: not known, and then it is in no rack that anybody else is in."""
    num_running_requests: int = 0
    num_running_tokens: int = 0
    """Tokens whose KV it holds."""
    busy_link_ratio: float = 0.0
    """Share of its link that is in use already (0..1)."""
    num_leases: int = 0
    """How many pull from it at the moment."""
    max_leases: int | None = None
    """How many it allows; None: any number."""

    def __post_init__(self) -> None:
        name = self.source_id
        check(
            at_least(f"{name}: num_running_requests", self.num_running_requests, 0),
            at_least(f"{name}: num_running_tokens", self.num_running_tokens, 0),
            within(f"{name}: busy_link_ratio", self.busy_link_ratio, 0, 1),
            at_least(f"{name}: num_leases", self.num_leases, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be pulled, and whereto."""

    size_bytes: int
    layout: Layout
    host_id: str
    rack_id: str | None = None
    generation: int | None = None
    """None: the newest that a candidate with the right layout has, leases left or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedSource:
    """A candidate that is able to, and what its cost is made of."""

    source_id: str
    cost_s: float
    """`pull_s` times `1 + load_cost + role_cost`: what the pull takes, and how much more it is
    held to be worth avoiding."""
    pull_s: float
    """Size over the part of the link that it can expect; infinite when all of it is in use."""
    locality: Locality
    load_cost: float
    role_cost: float

    @property
    def reason(self) -> str:
        """One line for people."""
        return (
            f"{self.locality}, pull {self.pull_s:.3g} s, load +{self.load_cost:.0%}, "
            f"role +{self.role_cost:.0%}: cost {self.cost_s:.3g} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedSource:
    """A candidate that is not able to."""

    source_id: str
    refusal: Refusal
    reason: str
    """One line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChoice:
    """All candidates: those to try, the best first, and the others."""

    ranked: tuple[RankedSource, ...]
    refused: tuple[RefusedSource, ...]


def choose_sources(
    wanted: Wanted, candidates: Sequence[Candidate], config: SourceConfig
) -> SourceChoice:
    """Rank the candidates by cost; of equal ones the one with the lower id goes first."""
    generation = wanted.generation
    if generation is None:
        fitting = (c.generation for c in candidates if c.layout == wanted.layout)
        generation = max(fitting, default=0)
    ranked: list[RankedSource] = []
    refused: list[RefusedSource] = []
    for candidate in candidates:
        refusal = _refusal(wanted, candidate, generation)
        if refusal is None:
            ranked.append(_rank(wanted, candidate, config))
        else:
            refused.append(refusal)
    return SourceChoice(
        ranked=tuple(sorted(ranked, key=lambda source: (source.cost_s, source.source_id))),
        refused=tuple(sorted(refused, key=lambda source: source.source_id)),
    )


def _refusal(wanted: Wanted, candidate: Candidate, generation: int) -> RefusedSource | None:
    own, theirs = wanted.layout, candidate.layout
    if own.model_hash != theirs.model_hash:
        refusal = Refusal.OTHER_MODEL
        reason = f"has model {theirs.model_hash}, wanted is {own.model_hash}"
    elif own != theirs:
        refusal = Refusal.OTHER_LAYOUT
        reason = f"has {_part(theirs)}, wanted is {_part(own)}"
    elif candidate.generation != generation:
        refusal = Refusal.OTHER_GENERATION
        reason = f"has generation {candidate.generation}, wanted is {generation}"
    elif candidate.max_leases is not None and candidate.num_leases >= candidate.max_leases:
        refusal = Refusal.NO_LEASE_FREE
        reason = f"has given {candidate.num_leases} of {candidate.max_leases} leases"
    else:
        return None
    return RefusedSource(source_id=candidate.source_id, refusal=refusal, reason=reason)


def _part(layout: Layout) -> str:
    parts = (
        ("tensor", layout.tensor_parallel_rank, layout.tensor_parallel_size),
        ("pipeline", layout.pipeline_parallel_rank, layout.pipeline_parallel_size),
        ("expert", layout.expert_parallel_rank, layout.expert_parallel_size),
    )
    return ", ".join(f"{name} rank {rank} of {size}" for name, rank, size in parts)


def _rank(wanted: Wanted, candidate: Candidate, config: SourceConfig) -> RankedSource:
    locality = _locality(wanted, candidate)
    rate = {
        Locality.SAME_HOST: config.same_host_bytes_per_s,
        Locality.SAME_RACK: config.same_rack_bytes_per_s,
        Locality.ELSEWHERE: config.elsewhere_bytes_per_s,
    }[locality]
    share = (1.0 - candidate.busy_link_ratio) / (candidate.num_leases + 1)
    pull_s = wanted.size_bytes / (rate * share) if share > 0 else float("inf")
    tokens = candidate.num_running_tokens + candidate.num_running_requests * config.request_tokens
    load_cost = config.load_weight * tokens / (tokens + config.half_load_tokens)
    role_cost = config.prefill_penalty_ratio if candidate.role is Role.PREFILL else 0.0
    return RankedSource(
        source_id=candidate.source_id,
        cost_s=pull_s * (1.0 + load_cost + role_cost),
        pull_s=pull_s,
        locality=locality,
        load_cost=load_cost,
        role_cost=role_cost,
    )


def _locality(wanted: Wanted, candidate: Candidate) -> Locality:
    if candidate.host_id == wanted.host_id:
        return Locality.SAME_HOST
    if candidate.rack_id is not None and candidate.rack_id == wanted.rack_id:
        return Locality.SAME_RACK
    return Locality.ELSEWHERE
