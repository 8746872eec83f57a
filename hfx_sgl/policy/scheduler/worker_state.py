"""What the scheduler believes about one worker, between one report and the next."""

import math
from collections import Counter
from typing import NamedTuple

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prefill import Features, PrefillModel, added
from hfx_sgl.policy.latency.transfer import TransferModel
from hfx_sgl.policy.latency.worker import WorkerLatency
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.own_timing import OwnTiming
from hfx_sgl.policy.scheduler.time_bound import TimeBound
from hfx_sgl.types import Role


class Computed(NamedTuple):
    """Prompts computed, by the scheduler's own guess of what the cache held."""

    num_tokens: int
    """New ones."""
    features: Features | None
    """Summed; None: nothing was."""


class WorkerState:
    """Prompts that it was sent and has not computed, and the requests that run on it."""

    __slots__ = (
        "_computed_features", "_free_at_s", "_num_computed_tokens", "_num_told", "_over",
        "_running", "_tpots_s",
        "context_tokens", "counted_share", "counted_start_s", "facts", "is_counted_pile",
        "is_on_probation", "is_prefill_only", "is_ready", "is_stuck", "is_unified", "is_usable",
        "keeps_no_counters", "kv_limit_tokens", "kv_tokens", "last_answered_transfer",
        "last_report", "latency",
        "num_last_answered_tokens", "num_running", "paced_until_s", "prefilled_s", "prompts",
        "ready_at_s", "sequence", "tightest_tpot_s", "time_bound", "timing", "told_s",
        "worker_id",
    )  # fmt: skip

    def __init__(
        self,
        facts: WorkerFacts,
        models: LatencyModels,
        sequence: int = 0,
        kv_fill: float = 1.0,
    ) -> None:
        """Take a worker that has nothing; `models` are those of its class."""
        self.facts = facts
        self.latency = WorkerLatency(models)
        self.worker_id = facts.worker_id
        self.sequence = sequence
        """Order of joining."""
        self.is_unified = facts.role is Role.REGULAR
        """Whether it decodes what it computes; a prefill worker needs another one for that."""
        self.is_prefill_only = facts.role is Role.PREFILL
        self.kv_limit_tokens = kv_fill * facts.kv_capacity_tokens
        """KV that several requests together are expected to fill at most."""
        self.is_usable = True
        self.is_stuck = False
        """Whether the prompt that it should have computed long since has not come back."""
        self.is_on_probation = False
        """Whether it was stuck and has computed nothing since: it gets one prompt at a time."""
        self.prompts: dict[str, Entry] = {}
        """Sent and not computed yet, in the order in which it will compute them."""
        self._num_told = 0
        """Of them, those whose end will be told."""
        self.told_s = 0.0
        """Prefill time of those."""
        self._free_at_s = -math.inf
        self._over: tuple[float, float] | None = None
        """When one of them was over last, and when its worker went on, unless that is counted."""
        self.paced_until_s = -math.inf
        """When the running requests can bear the next prefill."""
        self.num_running = 0
        """Requests that are decoded here, or will be."""
        self.context_tokens = 0
        """Expected total context of the running requests."""
        self.kv_tokens = 0
        """KV that they will fill in the end."""
        self.tightest_tpot_s = math.inf
        """The tightest TPOT promised here; `math.inf` when nothing is."""
        self.prefilled_s = 0.0
        """Prefill time of all prompts that were computed here."""
        self.last_report: WorkerReport | None = None
        self.keeps_no_counters = False
        """Whether it has computed prompts and does not say how long they took."""
        self.num_last_answered_tokens = 0
        """Length of the prompt that it answered last."""
        self.last_answered_transfer: TransferModel | None = None
        """How long its KV was expected to be under way; None: its decode worker is not known."""
        self.timing = OwnTiming()
        self.time_bound = TimeBound()
        self._num_computed_tokens = 0
        self._computed_features: Features | None = None
        self._running: set[str] = set()
        self._tpots_s: Counter[float] = Counter()
        # The pool's, about its place there:
        self.is_ready = False
        self.ready_at_s = -math.inf
        self.counted_share = 0.0
        self.is_counted_pile = False
        self.counted_start_s: float | None = None

    @property
    def can_be_sent_to(self) -> bool:
        """Whether it may get something, be it later."""
        return self.is_usable and not self.is_stuck

    @property
    def free_at_s(self) -> float:
        """When all of its prompts will be computed."""
        if self._over is not None:
            # Counted once for all that were over between two decisions: there may be many.
            now_s, free_at_s = self._over
            for other in self.prompts.values():
                if other.facts.is_prefill_told or other.prefill_ends_at_s > now_s:
                    free_at_s += other.prefill_s
            self._over = None
            self._free_at_s = free_at_s
        return self._free_at_s

    @property
    def room_tokens(self) -> float:
        """KV for one more request; without bound when there is no other: one always fits."""
        return self.kv_limit_tokens - self.kv_tokens if self._running else math.inf

    @property
    def behind_s(self) -> float:
        """Prefill time of the prompts here that wait for the first one; 0 with less than two."""
        if self._num_told < 2:
            return 0.0
        told = [entry.prefill_s for entry in self.prompts.values() if entry.facts.is_prefill_told]
        return sum(told[1:])

    def oldest_prompt(self) -> Entry | None:
        """Return the prompt whose end is due first, of those whose end will be told."""
        if not self._num_told:
            return None
        for entry in self.prompts.values():
            if entry.facts.is_prefill_told:
                return entry
        return None

    def pace(self, entry: Entry, now_s: float, share: float) -> None:
        """A prompt is sent to a worker that may spend this share of its time on prefills."""
        entry.paced_s = entry.prefill_s / share
        entry.paced_until_s = max(self.paced_until_s, now_s) + entry.paced_s
        self.paced_until_s = entry.paced_until_s

    def add_prompt(self, entry: Entry, now_s: float) -> None:
        """A prompt was sent here."""
        ends_at_s = max(self.free_at_s, now_s) + entry.prefill_s
        self._free_at_s = entry.prefill_ends_at_s = ends_at_s
        self.prompts[entry.facts.request_id] = entry
        if entry.facts.is_prefill_told:
            self._num_told += 1
            self.told_s += entry.prefill_s

    def prompt_computed(self, entry: Entry) -> Features:
        """Its prefill has ended; return its features."""
        num_tokens = entry.facts.num_prompt_tokens
        num_hit_tokens = entry.hit_tokens.get(self.worker_id, 0)
        num_new_tokens = num_tokens - num_hit_tokens
        features = PrefillModel.features(num_new_tokens, num_hit_tokens)
        self._num_computed_tokens += num_new_tokens
        before = self._computed_features
        self._computed_features = features if before is None else added(before, features)
        return features

    def take_computed(self) -> Computed:
        """Return what was computed since the last call."""
        computed = Computed(self._num_computed_tokens, self._computed_features)
        self._num_computed_tokens = 0
        self._computed_features = None
        return computed

    def bears(self, ends_at_s: float, now_s: float) -> bool:
        """Return whether a prompt may come that ends then.

        Those here that are not begun may end up in one step with it, and be late with it.
        """
        for other in self.prompts.values():
            ends_s = other.prefill_ends_at_s
            if now_s < ends_s - other.prefill_s and ends_s <= other.deadline_s < ends_at_s:
                return False
        return True

    def prompt_over(self, entry: Entry, now_s: float, lag_s: float = 0.0) -> bool:
        """It was computed `lag_s` ago, or will not be; return whether it was here."""
        if self.prompts.pop(entry.facts.request_id, None) is None:
            return False
        if entry.facts.is_prefill_told:
            self._num_told -= 1
            # No rounding errors are carried on for ever.
            self.told_s = self.told_s - entry.prefill_s if self._num_told else 0.0
        elif entry.paced_until_s > now_s:
            # All of its answer is there: the rest of what was kept for its prompt is not needed.
            self.paced_until_s -= min(entry.paced_s, entry.paced_until_s - now_s)
        self._over = now_s, now_s - lag_s
        return True

    def add_running(self, entry: Entry) -> None:
        """A request was sent here to be decoded."""
        self._running.add(entry.facts.request_id)
        self.num_running = len(self._running)
        self.context_tokens += entry.context_tokens
        self.kv_tokens += entry.kv_tokens
        self._tpots_s[entry.tpot_s] += 1
        if entry.tpot_s < self.tightest_tpot_s:
            self.tightest_tpot_s = entry.tpot_s

    def running_over(self, entry: Entry) -> None:
        """It has left. A request from before the worker was taken out and in again is unknown."""
        if entry.facts.request_id not in self._running:
            return
        self._running.remove(entry.facts.request_id)
        self.num_running = len(self._running)
        self.context_tokens -= entry.context_tokens
        self.kv_tokens -= entry.kv_tokens
        tpot_s = entry.tpot_s
        self._tpots_s[tpot_s] -= 1
        if not self._tpots_s[tpot_s]:
            del self._tpots_s[tpot_s]
            if tpot_s == self.tightest_tpot_s:
                self.tightest_tpot_s = min(self._tpots_s, default=math.inf)
        if not self._running:
            self.paced_until_s = -math.inf

    def tightest_kept_tpot_s(self, step_s: float) -> float:
        """Return the tightest TPOT here that steps of this length keep."""
        if step_s <= self.tightest_tpot_s:
            return self.tightest_tpot_s
        return min((tpot_s for tpot_s in self._tpots_s if tpot_s >= step_s), default=math.inf)
