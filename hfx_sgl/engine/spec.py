"""How an engine is set up: SGLang's server arguments, as far as they change its schedule."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than, within
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """Settings of one engine. Names and defaults follow SGLang 0.5.23 unless said otherwise."""

    role: Role = Role.REGULAR
    kv_capacity_tokens: int
    """`max_total_num_tokens`: tokens of KV that fit."""
    max_context_tokens: int
    """Prompt and output together may not exceed it."""
    kv_bytes_per_token: int
    """What one token of KV weighs in a hand-off."""
    page_tokens: int = 1
    """`page_size`: KV is allocated in pages of this many tokens."""
    max_running_requests: int = 256
    max_queued_requests: int | None = None
    """None: no limit."""
    max_prefill_tokens: int = 16_384
    """Uncached prompt tokens of one prefill step."""
    chunked_prefill_tokens: int | None = 8_192
    """`chunked_prefill_size`, a multiple of `page_tokens`; None computes a prompt in one step."""
    has_mixed_chunk: bool = False
    """`enable_mixed_chunk`: a prefill step also advances the running requests."""
    has_prefix_cache: bool = True
    """Not `disable_radix_cache`."""
    has_priority: bool = False
    """`enable_priority_scheduling`."""
    has_preemption: bool = True
    """Not `disable_priority_preemption`; without `has_priority` it has no effect."""
    preemption_threshold: int = 10
    """A running request gives way to one whose priority is higher by more than this."""
    schedule_conservativeness: float = 1.0
    """Scales how much of `max_new_tokens` is expected to be used when admitting."""
    num_reserved_decode_tokens: int = 512
    """Decode role: room kept for the growth of each request when allocating for a new one."""
    host_overhead_s: float = 0.0008
    """Added to each step. With the next: residual of the tables against SGLang on H100."""
    host_overhead_per_request_s: float = 0.00001
    """Added to each step for each request in it."""
    handoff_bytes_per_s: float = 25e9
    """Bandwidth of a prefill engine's link, shared equally by its transfers under way."""
    handoff_latency_s: float = 0.002
    """Fixed part of a transfer."""
    startup_s: float = 30.0
    """From start until requests are taken."""
    flip_s: float = 0.5
    """How long a change of role takes."""

    def __post_init__(self) -> None:
        check(
            at_least("max_context_tokens", self.max_context_tokens, 2),
            at_least("kv_bytes_per_token", self.kv_bytes_per_token, 1),
            at_least("page_tokens", self.page_tokens, 1),
            at_least("max_running_requests", self.max_running_requests, 1),
            at_least("max_queued_requests", self.max_queued_requests or 0, 0),
            at_least("max_prefill_tokens", self.max_prefill_tokens, 1),
            at_least("chunked_prefill_tokens", self.chunked_prefill_tokens or 1, 1),
            at_least("preemption_threshold", self.preemption_threshold, 0),
            within("schedule_conservativeness", self.schedule_conservativeness, 0, 10),
            at_least("num_reserved_decode_tokens", self.num_reserved_decode_tokens, 0),
            at_least("host_overhead_s", self.host_overhead_s, 0),
            at_least("host_overhead_per_request_s", self.host_overhead_per_request_s, 0),
            more_than("handoff_bytes_per_s", self.handoff_bytes_per_s, 0),
            at_least("handoff_latency_s", self.handoff_latency_s, 0),
            at_least("startup_s", self.startup_s, 0),
            at_least("flip_s", self.flip_s, 0),
            at_least("kv_capacity_tokens", self.kv_capacity_tokens, max(self.page_tokens, 1)),
            self._chunk_problem(),
        )

    def _chunk_problem(self) -> str | None:
        """Return what is wrong with the size of chunks: they end on a page."""
        chunk_tokens = self.chunked_prefill_tokens
        if chunk_tokens is None or self.page_tokens < 1 or chunk_tokens % self.page_tokens == 0:
            return None
        return (
            f"chunked_prefill_tokens: must be a multiple of page_tokens "
            f"({chunk_tokens}, {self.page_tokens})"
        )
