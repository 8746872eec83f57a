"""One request while the scheduler has it."""

from hfx_sgl.policy.scheduler.facts import RequestFacts
from hfx_sgl.policy.scheduler.on_time import Job


class Entry:
    """A request in the queue or on its workers. The scheduler owns and changes it."""

    __slots__ = (
        "deadline_s", "expected_output_tokens", "facts", "hit_tokens", "home_id",
        "prefill_ends_at_s", "prefill_s", "prefill_worker_id", "sent_at_s", "sequence",
        "service_s", "worker_id",
    )  # fmt: skip

    def __init__(
        self, facts: RequestFacts, sequence: int, deadline_s: float, expected_output_tokens: int
    ) -> None:
        self.facts = facts
        self.sequence = sequence
        """Order of arrival."""
        self.deadline_s = deadline_s
        """When its prefill must have ended."""
        self.expected_output_tokens = expected_output_tokens
        self.hit_tokens: dict[str, int] = {}
        """Prompt tokens in the prefix cache, by worker; workers without any are missing."""
        self.home_id: str | None = None
        """The worker that has most of its prefix; None when nobody has any."""
        self.service_s = 0.0
        """Prefill time on that worker, or anywhere without one."""
        self.worker_id: str | None = None
        self.prefill_worker_id: str | None = None
        self.prefill_s = 0.0
        """Prefill time where it was sent."""
        self.prefill_ends_at_s = 0.0
        """When that will have passed, as expected when it was sent."""
        self.sent_at_s = 0.0

    @property
    def key(self) -> tuple[float, int]:
        """Its place in the queue."""
        return self.deadline_s, self.sequence

    @property
    def job(self) -> Job:
        """It, as something that takes time."""
        return Job(self.deadline_s, self.service_s)

    @property
    def expected_context_tokens(self) -> int:
        """Mean context while it decodes."""
        return self.facts.num_prompt_tokens + self.expected_output_tokens // 2

    @property
    def expected_kv_tokens(self) -> int:
        """KV that it will have in the end."""
        return self.facts.num_prompt_tokens + self.expected_output_tokens

    def is_feasible(self, now_s: float) -> bool:
        """Whether it would be on time if its best worker began now."""
        return now_s + self.service_s <= self.deadline_s
