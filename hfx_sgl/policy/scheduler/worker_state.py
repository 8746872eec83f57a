"""What the scheduler believes about one worker, between one report and the next."""

import math
from collections import Counter
from operator import add
from typing import NamedTuple

from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import WorkerFacts, WorkerReport
from hfx_sgl.types import Role


class Computed(NamedTuple):
    """Prompts computed, by the scheduler's own guess of what the cache held."""

    num_tokens: int = 0
    """New ones."""
    features: tuple[float, ...] = ()
    """Sums of `PrefillModel.features`; empty before the first prompt."""


class WorkerState:
    """Prompts that it was sent and has not computed, and the requests that run on it."""

    __slots__ = (
        "_computed", "_running", "_tpots_s", "context_tokens", "facts", "free_at_s", "kv_tokens",
        "last_report", "paced_until_s", "prompts",
    )  # fmt: skip

    def __init__(self, facts: WorkerFacts) -> None:
        self.facts = facts
        self.prompts: dict[str, Entry] = {}
        """Sent and not computed yet, in the order in which it will compute them."""
        self.free_at_s = -math.inf
        """When all of these will be computed."""
        self.paced_until_s = -math.inf
        """When the running requests can bear the next prefill."""
        self.context_tokens = 0
        """Expected total context of the running requests."""
        self.kv_tokens = 0
        """KV that they will fill in the end."""
        self.last_report: WorkerReport | None = None
        self._computed = Computed()
        self._running: set[str] = set()
        self._tpots_s: Counter[float] = Counter()

    @property
    def is_unified(self) -> bool:
        """Whether it decodes what it computes; a prefill worker needs another one for that."""
        return self.facts.role is Role.REGULAR

    @property
    def num_running(self) -> int:
        """Requests that are decoded here, or will be."""
        return len(self._running)

    @property
    def tightest_tpot_s(self) -> float:
        """The tightest TPOT promised here; `math.inf` when nothing is."""
        return min(self._tpots_s, default=math.inf)

    def add_prompt(self, entry: Entry, now_s: float) -> None:
        """A prompt was sent here."""
        self.prompts[entry.facts.request_id] = entry
        self.free_at_s = max(self.free_at_s, now_s) + entry.prefill_s
        entry.prefill_ends_at_s = self.free_at_s

    def prompt_computed(self, entry: Entry) -> None:
        """Its prefill has ended."""
        num_tokens = entry.facts.num_prompt_tokens
        num_hit_tokens = entry.hit_tokens.get(self.facts.worker_id, 0)
        num_new_tokens = num_tokens - num_hit_tokens
        features = PrefillModel.features(num_new_tokens, num_hit_tokens)
        before = self._computed
        self._computed = Computed(
            before.num_tokens + num_new_tokens,
            tuple(map(add, before.features, features)) or features,
        )

    def take_computed(self) -> Computed:
        """Return what was computed since the last call."""
        computed, self._computed = self._computed, Computed()
        return computed

    def prompt_over(self, entry: Entry, now_s: float) -> None:
        """It has been computed, or will not be."""
        if self.prompts.pop(entry.facts.request_id, None) is not None:
            self.free_at_s = now_s + sum(
                other.prefill_s
                for other in self.prompts.values()
                if other.facts.is_prefill_told or other.prefill_ends_at_s > now_s
            )

    def add_running(self, entry: Entry) -> None:
        """A request was sent here to be decoded."""
        self._running.add(entry.facts.request_id)
        self.context_tokens += entry.expected_context_tokens
        self.kv_tokens += entry.expected_kv_tokens
        self._tpots_s[entry.facts.slo.tpot_s] += 1

    def running_over(self, entry: Entry) -> None:
        """It has left. A request from before the worker was taken out and in again is unknown."""
        if entry.facts.request_id not in self._running:
            return
        self._running.remove(entry.facts.request_id)
        self.context_tokens -= entry.expected_context_tokens
        self.kv_tokens -= entry.expected_kv_tokens
        tpot_s = entry.facts.slo.tpot_s
        self._tpots_s[tpot_s] -= 1
        if not self._tpots_s[tpot_s]:
            del self._tpots_s[tpot_s]
        if not self._running:
            self.paced_until_s = -math.inf

    def has_room(self, entry: Entry, kv_fill: float) -> bool:
        """Whether its KV is expected to fit; one request always does."""
        room_tokens = kv_fill * self.facts.kv_capacity_tokens
        return not self.num_running or self.kv_tokens + entry.expected_kv_tokens <= room_tokens
