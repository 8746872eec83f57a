"""The scheduler: composes queue, estimates and placement. Decides only; its driver sends."""

import math
from collections.abc import Iterable

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import Dispatch, RequestFacts, WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.on_time import on_time
from hfx_sgl.policy.scheduler.output_lengths import OutputLengths
from hfx_sgl.policy.scheduler.prefixes import CachedPrefixes
from hfx_sgl.policy.scheduler.queue import WaitingQueue
from hfx_sgl.policy.scheduler.worker_state import WorkerState
from hfx_sgl.types import Role

_NO_PROMISE_TTFT_S = 60.0
"""Where a request without a promise stands in the queue."""


class Scheduler:
    """One queue in front of unified workers, or of prefill and decode workers.

    Tell it what happens, then ask `decide`. Instants never decrease.
    """

    def __init__(self, config: SchedulerConfig, models: LatencyModels) -> None:
        self._config = config
        self._models = models
        self._queue = WaitingQueue()
        self._prefixes = CachedPrefixes(config.cache_share)
        self._lengths = OutputLengths()
        self._prefillers: dict[str, WorkerState] = {}
        """Who computes prompts: unified or prefill workers."""
        self._decoders: dict[str, WorkerState] = {}
        """Decode workers; none when workers are unified."""
        self._sent: dict[str, Entry] = {}
        self._waiting: dict[str, Entry] = {}
        self._num_arrived = 0
        self._demoted_credit_s = 0.0
        """Prefill time that requests which can no longer be on time have earned."""

    # --- what happens ---

    def add_worker(self, facts: WorkerFacts) -> None:
        """A worker can be used from here on. One that is known has started anew."""
        self.remove_worker(facts.worker_id)
        pool = self._decoders if facts.role is Role.DECODE else self._prefillers
        pool[facts.worker_id] = WorkerState(facts)
        if facts.role is not Role.DECODE:
            self._prefixes.add_worker(facts.worker_id, facts.kv_capacity_tokens)

    def remove_worker(self, worker_id: str) -> None:
        """A worker gets nothing any more; what it has is ended by its driver, one by one."""
        self._decoders.pop(worker_id, None)
        if self._prefillers.pop(worker_id, None) is not None:
            self._prefixes.remove_worker(worker_id)
            for entry in self._waiting.values():
                if worker_id in entry.hit_tokens:
                    self._look_again(entry)

    def arrive(self, facts: RequestFacts) -> None:
        """A request is here and waits.

        Raises:
            ValueError: there is one with this id that is not over.
        """
        if facts.request_id in self._waiting or facts.request_id in self._sent:
            raise ValueError(f"request {facts.request_id} is here already")
        ttft_s = facts.slo.ttft_s if math.isfinite(facts.slo.ttft_s) else _NO_PROMISE_TTFT_S
        entry = Entry(
            facts,
            self._num_arrived,
            facts.arrived_at_s + ttft_s - self._config.deadline_margin_s,
            self._lengths.expected_tokens(facts.class_name, facts.max_output_tokens),
        )
        self._num_arrived += 1
        self._find_home(entry)
        self._waiting[facts.request_id] = entry
        self._queue.add(entry)

    def prefill_over(self, request_id: str, now_s: float) -> None:
        """Its prompt has been computed: the prefill worker answered, or the first token came.

        Raises:
            KeyError: it was not sent, or is over.
        """
        entry = self._sent[request_id]
        state = self._prefillers.get(entry.prefill_worker_id or "")
        if state is None or request_id not in state.prompts:
            return
        state.prompt_computed(entry)
        state.prompt_over(entry, now_s)

    def over(self, request_id: str, now_s: float, num_output_tokens: int | None) -> None:
        """The request has ended, or its client left. `num_output_tokens` of a complete answer.

        Raises:
            KeyError: it is not here.
        """
        entry = self._waiting.pop(request_id, None)
        if entry is not None:
            self._queue.remove(entry)
            return
        if num_output_tokens is not None:
            self.prefill_over(request_id, now_s)
        entry = self._sent.pop(request_id)
        prefiller = self._prefillers.get(entry.prefill_worker_id or "")
        if prefiller is not None:
            prefiller.prompt_over(entry, now_s)
        pool = self._prefillers if entry.worker_id in self._prefillers else self._decoders
        decoder = pool.get(entry.worker_id or "")
        if decoder is not None:
            decoder.running_over(entry)
        if num_output_tokens is not None:
            self._lengths.observe(entry.facts.class_name, num_output_tokens)

    def report(self, worker_id: str, report: WorkerReport) -> None:
        """A worker has told of itself: learn how fast it is."""
        state = self._prefillers.get(worker_id) or self._decoders.get(worker_id)
        if state is None:
            return
        before, state.last_report = state.last_report, report
        computed = state.take_computed()
        if before is None:
            return
        models = self._models
        models.decode.observe_moments(
            before.decode_moments, report.decode_moments, report.mean_context_tokens
        )
        num_tokens = report.num_prefill_tokens - before.num_prefill_tokens
        busy_s = report.prefill_busy_s - before.prefill_busy_s
        if computed.num_tokens and num_tokens > 0 and busy_s > 0:
            # The worker knows how much it found in its cache; the scheduler only guesses.
            ratio = num_tokens / computed.num_tokens
            num_prompts, *rest = computed.features
            models.prefill.observe_total((num_prompts, *(ratio * x for x in rest)), busy_s)

    # --- decisions ---

    def decide(self, now_s: float) -> list[Dispatch]:
        """Return whom to send where now. What is returned counts as sent."""
        dispatches: list[Dispatch] = []
        idle_ids: set[str] = set()
        while self._waiting and (states := self._ready(now_s, idle_ids)):
            state = min(states, key=self._load)
            entry = self._choose(state, now_s)
            decoder = None if entry is None else self._decoder(entry, state)
            if entry is None or decoder is None:
                idle_ids.add(state.facts.worker_id)
                continue
            dispatches.append(self._send(entry, state, decoder, now_s))
            # Who is next in the queue may suit those whom the one before did not.
            idle_ids.clear()
        return dispatches

    def next_decision_s(self, now_s: float) -> float:
        """Return when to ask `decide` again though nothing happens before; `math.inf`: never.

        To be asked after `decide`: workers that are ready and got nothing wait for an event.
        """
        if not self._waiting:
            return math.inf
        ready_at_s = map(self._ready_at_s, self._prefillers.values())
        return min((at_s for at_s in ready_at_s if at_s > now_s), default=math.inf)

    def _ready(self, now_s: float, idle_ids: Iterable[str]) -> list[WorkerState]:
        return [
            state
            for state in self._prefillers.values()
            if self._ready_at_s(state) <= now_s and state.facts.worker_id not in idle_ids
        ]

    def _ready_at_s(self, state: WorkerState) -> float:
        return max(
            state.free_at_s - self._config.lookahead_s,
            state.paced_until_s - self._config.lookahead_s / 2,
        )

    def _load(self, state: WorkerState) -> tuple[float, float]:
        if not state.is_unified:
            return 0.0, state.free_at_s
        step_s = self._models.decode.predict_s(state.num_running + 1, state.context_tokens)
        return step_s, state.free_at_s

    def _choose(self, state: WorkerState, now_s: float) -> Entry | None:
        """Return whom this worker should compute next; None: nobody who waits should go there."""
        urgent = self._queue.urgent(self._config.window, now_s)
        oldest = self._queue.oldest_demoted()
        if oldest is not None and oldest.service_s <= self._demoted_credit_s:
            return oldest
        if not urgent:
            return self._queue.shortest_demoted()
        start_s, speed = self._capacity(now_s)
        kept = list(on_time(((entry, entry.job) for entry in urgent), start_s, speed))
        if not kept:
            return min(urgent, key=lambda entry: entry.service_s)
        return self._fitting(state, kept, now_s)

    def _fitting(self, state: WorkerState, kept: list[Entry], now_s: float) -> Entry | None:
        """Return the first whose prefix is here or nowhere better, or who cannot wait for it."""
        worker_id = state.facts.worker_id
        cheapest: tuple[float, Entry] | None = None
        for entry in kept:
            if entry.home_id is None or entry.home_id == worker_id:
                return entry
            extra_s = self._prefill_s(entry, worker_id) - entry.service_s
            home = self._prefillers[entry.home_id]
            begins_at_s = max(self._ready_at_s(home), now_s)
            can_wait = begins_at_s + entry.service_s <= entry.deadline_s
            if extra_s <= 0 or not can_wait or not home.has_room(entry, self._config.kv_fill):
                return entry
            if cheapest is None or extra_s < cheapest[0]:
                cheapest = extra_s, entry
        if cheapest is not None and cheapest[0] <= self._config.steal_extra_s:
            return cheapest[1]
        return None

    def _capacity(self, now_s: float) -> tuple[float, float]:
        """Return when the pool is free on average, and how much prefill it does per second."""
        states = self._prefillers.values()
        start_s = sum(max(state.free_at_s, now_s) for state in states) / len(states)
        return start_s, sum(map(self._prefill_share, states))

    def _prefill_share(self, state: WorkerState) -> float:
        """Return which share of a worker's time prefills may take from its decode steps."""
        if not state.is_unified or not state.num_running:
            return 1.0
        allowed_s = state.tightest_tpot_s * self._config.tpot_margin
        step_s = self._models.decode.predict_s(state.num_running + 1, state.context_tokens)
        return max(self._config.min_prefill_share, 1.0 - step_s / allowed_s)

    def _decoder(self, entry: Entry, prefiller: WorkerState) -> WorkerState | None:
        """Return who decodes it: with PD the one whose steps stay shortest; None: no room."""
        fill = self._config.kv_fill
        if prefiller.is_unified:
            return prefiller if prefiller.has_room(entry, fill) else None
        fitting = [state for state in self._decoders.values() if state.has_room(entry, fill)]
        return min(
            fitting,
            key=lambda state: self._models.decode.predict_s(
                state.num_running + 1, state.context_tokens + entry.expected_context_tokens
            ),
            default=None,
        )

    def _send(
        self, entry: Entry, prefiller: WorkerState, decoder: WorkerState, now_s: float
    ) -> Dispatch:
        request_id = entry.facts.request_id
        worker_id = prefiller.facts.worker_id
        is_oldest_demoted = entry is self._queue.oldest_demoted()
        self._queue.remove(entry)
        del self._waiting[request_id]
        self._sent[request_id] = entry
        share = self._prefill_share(prefiller)
        entry.prefill_s = self._prefill_s(entry, worker_id)
        entry.prefill_worker_id = worker_id
        entry.worker_id = decoder.facts.worker_id
        entry.sent_at_s = now_s
        prefiller.add_prompt(entry, now_s)
        if prefiller.is_unified:
            paced_s = entry.prefill_s / share
            prefiller.paced_until_s = max(prefiller.paced_until_s, now_s) + paced_s
        self._settle_credit(entry, is_oldest_demoted)
        decoder.add_running(entry)
        self._prefixes.remember(worker_id, entry)
        self._refresh_homes(entry)
        return Dispatch(
            request_id=request_id,
            worker_id=entry.worker_id,
            prefill_worker_id=None if prefiller.is_unified else worker_id,
            is_on_time=prefiller.free_at_s <= entry.deadline_s,
            predicted_prefill_s=entry.prefill_s,
            num_hit_tokens=entry.hit_tokens.get(worker_id, 0),
        )

    def _settle_credit(self, entry: Entry, is_oldest_demoted: bool) -> None:
        """The oldest demoted spends what all others earn it: a share of their prefill time."""
        if is_oldest_demoted:
            self._demoted_credit_s = max(0.0, self._demoted_credit_s - entry.service_s)
        elif self._queue.num_demoted:
            self._demoted_credit_s += self._config.demoted_share * entry.prefill_s

    # --- estimates ---

    def _find_home(self, entry: Entry) -> None:
        self._prefixes.look_up(entry, self._prefillers)
        best = max(entry.hit_tokens.items(), key=lambda item: item[1], default=(None, 0))
        entry.home_id = best[0]
        entry.service_s = self._models.prefill.predict_s(
            entry.facts.num_prompt_tokens - best[1], best[1]
        )

    def _refresh_homes(self, sent: Entry) -> None:
        """Look again for those that begin like a prompt that was just sent."""
        first = sent.facts.block_digests[:1]
        if not first:
            return
        for entry in self._waiting.values():
            if entry.facts.block_digests[:1] == first:
                self._look_again(entry)

    def _look_again(self, entry: Entry) -> None:
        self._queue.remove(entry)
        self._find_home(entry)
        self._queue.add(entry)

    def _prefill_s(self, entry: Entry, worker_id: str) -> float:
        hit_tokens = entry.hit_tokens.get(worker_id, 0)
        return self._models.prefill.predict_s(
            entry.facts.num_prompt_tokens - hit_tokens, hit_tokens
        )
