"""One request while the scheduler has it."""

import math
from collections.abc import Sequence

from hfx_sgl.policy.scheduler.facts import RequestFacts


class Entry:
    """A request in the queue or on its workers. The scheduler owns and changes it."""

    # Defaults of the class, so that a request pays only for what it changes.
    grains: Sequence[int] = ()
    """Those digests of its prompt by which prefixes are told apart."""
    tokens_per_grain = 1.0
    handoff_s = 0.0
    """What is expected to pass from the end of its prefill to its first token."""
    home_id: str | None = None
    """The worker that has most of its prefix; None when nobody has any."""
    uncached_s = 0.0
    """Prefill time where nothing of it is cached."""
    detour_s = 0.0
    """What its prefill takes longer where nothing of it is cached than there."""
    prefix_version = -1
    """State of the prefix memory when these two were looked up."""
    models_version = -1
    """State of the latency models when `service_s` was predicted."""
    service_s = 0.0
    """Prefill time on its home, or anywhere without one, with what is kept for surprises."""
    given_up_at_s: float | None = None
    """Since when others have been preferred to keeping it on time; None: it is kept."""
    is_kept = True
    num_recalls = 0
    """How often it was taken back from a worker that did not get to it."""
    worker_id: str | None = None
    prefill_worker_id: str | None = None
    prefill_s = 0.0
    """Prefill time where it was sent."""
    prefill_ends_at_s = 0.0
    """When that will have passed, as expected when it was sent."""
    paced_s = 0.0
    """How long."""
    step_s = 0.0
    """Time of a decode step where it was sent, as expected then."""
    sent_at_s = 0.0
    passed_over_at_s: float | None = None
    """When its prefill worker had computed one that was sent there later; None: has not."""
    answered_at_s: float | None = None
    """When its prefill worker answered."""
    is_counted = False
    """Whether it counts already as kept on time or not."""
    timing: tuple[int, float] | None = None
    """When its first token came, what its decode worker had: running requests, and seconds of
    prefill since it joined."""

    def __init__(
        self, facts: RequestFacts, sequence: int, deadline_s: float, expected_output_tokens: int
    ) -> None:
        self.facts = facts
        self.sequence = sequence
        """Order of arrival."""
        self.deadline_s = deadline_s
        """When its prefill must have ended."""
        self.expected_output_tokens = expected_output_tokens
        num_prompt_tokens = facts.num_prompt_tokens
        self.context_tokens = num_prompt_tokens + expected_output_tokens // 2
        """Mean context while it decodes."""
        self.kv_tokens = num_prompt_tokens + expected_output_tokens
        """KV that it will have in the end."""
        self.tpot_s = facts.slo.tpot_s
        """What its decode steps may take: its TPOT, or what an end-to-end bound leaves of it."""
        self.avoided_ids = facts.avoided_ids
        """Workers that are used only when no other can be."""
        self.paced_until_s = -math.inf
        """Until when its prefill was to keep a unified worker from the next."""
        self.hit_tokens: dict[str, int] = {}
        """Prompt tokens in the prefix cache, by worker; workers without any are missing."""

    @property
    def key(self) -> tuple[float, int]:
        """Its place in the queue."""
        return self.deadline_s, self.sequence

    def is_feasible(self, now_s: float) -> bool:
        """Whether it would be on time if its best worker began now."""
        return now_s + self.service_s <= self.deadline_s
