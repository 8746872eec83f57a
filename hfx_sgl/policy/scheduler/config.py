"""Settings of the scheduler."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than, within


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """The defaults come from simulations of the workload `mixed`."""

    lookahead_s: float = 0.03
    """A worker gets its next prompt when what it has will take no longer than this: the way to the
    worker and back must not leave it idle, and what is sent cannot be reordered any more."""
    tpot_margin: float = 0.9
    """Share of the tightest TPOT on a worker that decode steps and prefills may fill together."""
    min_prefill_share: float = 0.1
    """Least share of a unified worker's time for prefills, however tight its promises are."""
    kv_fill: float = 0.9
    """Share of a worker's KV that requests are expected to fill at most."""
    cache_share: float = 0.7
    """Share of a worker's KV that is taken to hold prefixes of earlier prompts."""
    window: int = 48
    """How many of the most urgent requests one decision looks at."""
    steal_extra_s: float = 0.02
    """A prompt leaves the worker that has its prefix when that costs less prefill than this, or
    when it would be late there."""
    demoted_share: float = 0.03
    """Share of prefill time for requests that can no longer be on time while others still can, the
    oldest of them first, so that none starves."""
    deadline_margin_s: float = 0.02
    """Kept free before each TTFT: network, hand-off and the wait for a step to end."""

    def __post_init__(self) -> None:
        check(
            at_least("lookahead_s", self.lookahead_s, 0),
            more_than("tpot_margin", self.tpot_margin, 0),
            within("min_prefill_share", self.min_prefill_share, 0.01, 1),
            within("kv_fill", self.kv_fill, 0.01, 1),
            within("cache_share", self.cache_share, 0, 1),
            at_least("window", self.window, 1),
            at_least("steal_extra_s", self.steal_extra_s, 0),
            within("demoted_share", self.demoted_share, 0, 1),
            at_least("deadline_margin_s", self.deadline_margin_s, 0),
        )
