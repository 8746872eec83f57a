"""Settings of the scheduler."""

from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than, within


class OnInfeasible(StrEnum):
    """What becomes of a request whose promise can no longer be kept."""

    DEMOTE = "demote"
    """It waits behind those that can be on time, and ages: nothing starves."""
    REJECT = "reject"
    """It is sent away at once."""
    BEST_EFFORT = "best_effort"
    """It gets what is left over, and nothing while others can be on time."""


class Order(StrEnum):
    """In which order those that wait are sent, and whom that leaves behind."""

    FEWEST_LATE = "fewest_late"
    """By deadline; where not all can be on time, those are given up that cost the others most."""
    DEADLINE = "deadline"
    """By deadline; who cannot be on time any more goes last."""
    ARRIVAL = "arrival"
    """First come, first served: nobody's promise counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """The defaults come from simulations of the workload `mixed`."""

    order: Order = Order.FEWEST_LATE
    lookahead_s: float = 0.03
    """A worker gets its next prompt when what it has will take no longer than this: the way to the
    worker and back must not leave it idle, and what is sent cannot be reordered any more."""
    tpot_margin: float = 0.9
    """Share of the tightest TPOT on a worker that decode steps and prefills may fill together."""
    min_prefill_share: float = 0.1
    """Least share of a unified worker's time for prefills, however tight its promises are."""
    kv_fill: float = 0.9
    """Share of a worker's KV that requests are expected to fill at most."""
    cache_share: float = 0.9
    """Share of a worker's KV that is taken to hold prefixes of earlier prompts."""
    prefix_grain_tokens: float = 128.0
    """Prefixes are told apart no finer than this; finer costs more memory and time for each
    prompt."""
    window: int = 48
    """How many of the most urgent requests one decision looks at."""
    steal_extra_s: float = 0.02
    """A prompt leaves the worker that has its prefix when that costs less prefill than this, or
    when it would be late there."""
    hit_gain: float = 2.0
    """A prompt whose prefix saves this many times what it takes goes before more urgent ones that
    stay on time nevertheless: what it saves may be evicted while it waits."""
    fairness: float = 0.6
    """A class, or a tenant, whose promises are kept less often than this share of the average is
    given up later than others; 0: only how long a prompt takes counts."""
    demoted_share: float = 0.005
    """Share of prefill time for requests that can no longer be on time while others still can, the
    oldest of them first, so that none starves."""
    on_infeasible: OnInfeasible = OnInfeasible.DEMOTE
    give_up_share: float = 0.5
    """With `reject`: who has been given up for the sake of others for this share of the time in
    which it could have been begun is sent away before that has passed."""
    deadline_margin_s: float = 0.02
    """Kept free before each TTFT for the network and the wait for a step to end; what a hand-off
    takes is learned, and comes on top."""
    prefill_caution: float = 0.0
    """How much of what the slowest tenth of prefills takes longer than predicted is added to each
    prediction when promises are judged; 0: nothing, 1: all of it."""
    step_caution: float = 0.0
    """The same for decode steps."""
    guards_tpot: bool = True
    """Whether a request waits as long as it can rather than break the TPOT of those that run."""
    times_workers: bool = True
    """Whether the models learn from when answers came, too, where workers do not say how long
    their steps took."""
    outstanding_s: float = 0.5
    """A worker whose first prompt does not come back gets no more prompts behind it than take this
    long, and `lookahead_s`, together."""
    overdue_ratio: float = 4.0
    """A worker is stuck, and what waits there is taken back, when its first prompt takes more than
    this many times its predicted time (that of the slowest tenth) ..."""
    overdue_s: float = 1.0
    """... and this."""
    passed_over_s: float = 10.0
    """A prompt is taken back that its prefill worker has not computed so long after one that was
    sent there later. Far longer than transfers overtake each other, far shorter than the 300 s for
    which SGLang waits for a hand-off that has got lost."""
    max_recalls: int = 2
    """How often one request is taken back at most."""

    def __post_init__(self) -> None:
        check(
            at_least("lookahead_s", self.lookahead_s, 0),
            more_than("tpot_margin", self.tpot_margin, 0),
            within("min_prefill_share", self.min_prefill_share, 0.01, 1),
            within("kv_fill", self.kv_fill, 0.01, 1),
            within("cache_share", self.cache_share, 0, 1),
            at_least("prefix_grain_tokens", self.prefix_grain_tokens, 1),
            at_least("window", self.window, 1),
            at_least("steal_extra_s", self.steal_extra_s, 0),
            at_least("hit_gain", self.hit_gain, 0),
            within("fairness", self.fairness, 0, 1),
            within("demoted_share", self.demoted_share, 0, 1),
            within("give_up_share", self.give_up_share, 0, 1),
            at_least("deadline_margin_s", self.deadline_margin_s, 0),
            within("prefill_caution", self.prefill_caution, 0, 1),
            within("step_caution", self.step_caution, 0, 1),
            at_least("outstanding_s", self.outstanding_s, 0),
            at_least("overdue_ratio", self.overdue_ratio, 1),
            at_least("overdue_s", self.overdue_s, 0),
            more_than("passed_over_s", self.passed_over_s, 0),
            at_least("max_recalls", self.max_recalls, 0),
        )
