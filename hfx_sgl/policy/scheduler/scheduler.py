"""The scheduler: hears what happens, keeps the accounts. Decides only; its driver sends."""

import math

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.pairs.view import ALL_PAIRS, PairView
from hfx_sgl.policy.scheduler.config import OnInfeasible, Order, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.estimates import Estimates
from hfx_sgl.policy.scheduler.explain import Explainer
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    Recall,
    Rejection,
    RequestFacts,
    WorkerFacts,
    WorkerReport,
)
from hfx_sgl.policy.scheduler.fairness import KeptShares
from hfx_sgl.policy.scheduler.handoff import Handoff, SeenHandoff
from hfx_sgl.policy.scheduler.hits import Hits
from hfx_sgl.policy.scheduler.learning import Learning
from hfx_sgl.policy.scheduler.output_lengths import OutputLengths
from hfx_sgl.policy.scheduler.partners import Partners
from hfx_sgl.policy.scheduler.passed_over import PassedOver
from hfx_sgl.policy.scheduler.placement import Placement
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.prefixes import CachedPrefixes
from hfx_sgl.policy.scheduler.queue import WaitingQueue
from hfx_sgl.policy.scheduler.sites import Move, Sites
from hfx_sgl.policy.scheduler.worker_state import WorkerState
from hfx_sgl.types import Role

_NO_PROMISE_TTFT_S = 60.0
"""Where a request without a promise stands in the queue."""
_NEVER_LATE_S = 1e6
_TOP_PRIORITY = 9
"""Late requests have 0. SGLang takes a running request back for one whose priority is higher by
more than 10 (`--priority-scheduling-preemption-threshold`), which costs more than it saves."""
_PRIORITY_SLACK_S = 0.05
_RECALL_PAUSE_S = 0.001
"""After a recall the driver is to ask again."""


class Scheduler:
    """One queue in front of unified workers, or of prefill and decode workers.

    Tell it what happens, then ask `decide`. Instants never decrease.
    """

    def __init__(
        self, config: SchedulerConfig, models: LatencyModels, pairs: PairView = ALL_PAIRS
    ) -> None:
        """Take the models of workers that come without their own, and which pairs may be chosen."""
        self._config = config
        self._pairs = pairs
        hits = Hits(config.hit_gain)
        self._queue = WaitingQueue(hits)
        self._prefixes = CachedPrefixes(config.cache_share, config.prefix_grain_tokens)
        self._lengths = OutputLengths()
        self._models = models
        self._learning = Learning(config)
        self._estimates = Estimates(config, models, self._prefixes, hits)
        self._prefillers = WorkerPool(config)
        self._estimates.prefillers = self._prefillers.states
        """Who computes prompts: unified or prefill workers."""
        self._decoders = WorkerPool(config)
        """Decode workers; none when workers are unified."""
        self._kept = KeptShares(config.fairness)
        self._handoff = Handoff(models.transfer)
        self._placement = Placement(
            config,
            self._estimates,
            self._queue,
            self._prefillers,
            self._decoders,
            self._kept,
            Sites(
                config,
                self._estimates,
                self._prefillers,
                self._decoders,
                Partners(pairs, self._prefillers, self._decoders),
            ),
        )
        self._explainer = Explainer(self._estimates, self._queue, self._prefillers)
        self._passed_over = PassedOver(config.passed_over_s)
        self._sent: dict[str, Entry] = {}
        self._waiting: dict[str, Entry] = {}
        self._num_arrived = 0
        self._num_joined = 0
        self._has_recalled = False
        """Whether requests wait again that the last `decide` took back."""
        self._has_left = False
        """Whether the last `decide` left anybody waiting."""

    # --- workers ---

    def add_worker(self, facts: WorkerFacts) -> None:
        """A worker can be used from here on. One that is known has started anew."""
        self.remove_worker(facts.worker_id)
        pool = self._decoders if facts.role is Role.DECODE else self._prefillers
        models = facts.models or self._models
        pool.add(WorkerState(facts, models, self._num_joined, self._config.kv_fill))
        self._num_joined += 1
        if facts.role is Role.DECODE:
            self._set_handoff_classes()
        else:
            self._prefixes.add_worker(facts.worker_id, facts.kv_capacity_tokens)

    def remove_worker(self, worker_id: str) -> None:
        """A worker gets nothing any more; what it has is ended by its driver, one by one."""
        if self._decoders.remove(worker_id):
            self._set_handoff_classes()
        if self._prefillers.remove(worker_id):
            self._prefixes.remove_worker(worker_id)
            self._placement.worker_left()

    def _set_handoff_classes(self) -> None:
        self._handoff.set_classes(
            [state.latency.models.transfer for state in self._decoders.states.values()]
        )

    def set_usable(self, worker_id: str, is_usable: bool) -> None:
        """Give a worker nothing for a while, or again; what it has and had is not forgotten."""
        for pool in (self._prefillers, self._decoders):
            if (state := pool.states.get(worker_id)) is not None:
                state.is_usable = is_usable
                pool.touch(state)

    def report(self, worker_id: str, report: WorkerReport) -> SeenHandoff | None:
        """A worker has told of itself: learn how fast it is.

        Returns a hand-off that it told of for the first time; None when there was none.
        """
        seen: SeenHandoff | None = None
        for pool in (self._prefillers, self._decoders):
            if (state := pool.states.get(worker_id)) is not None:
                seen = self._learn_transfer(state, report)
                self._learning.report(state, report)
                # Its place is by predictions, which may have changed.
                pool.touch(state)
        return seen

    def _learn_transfer(self, state: WorkerState, report: WorkerReport) -> SeenHandoff | None:
        before = state.last_report
        num_tokens = state.num_last_answered_tokens
        # A worker tells of its last transfer until there is another.
        is_new = before is None or report.last_transfer_s != before.last_transfer_s
        if not (is_new and num_tokens and report.last_transfer_bytes):
            return None
        return self._handoff.observe_transfer(
            report.last_transfer_bytes,
            report.last_transfer_s,
            num_tokens,
            state.last_answered_transfer,
        )

    # --- requests ---

    def arrive(self, facts: RequestFacts) -> None:
        """A request is here and waits.

        Raises:
            ValueError: there is one with this id that is not over.
        """
        request_id = facts.request_id
        if request_id in self._waiting or request_id in self._sent:
            raise ValueError(f"request {request_id} is here already")
        num_tokens = self._lengths.expected_tokens(facts.class_name, facts.max_output_tokens)
        deadline_s = self._first_token_by_s(facts, num_tokens) - self._config.deadline_margin_s
        entry = Entry(facts, self._num_arrived, deadline_s, num_tokens)
        if self._decoders.states:
            entry.handoff_s = self._handoff.until_first_token_s(facts.num_prompt_tokens)
            entry.deadline_s -= entry.handoff_s
        self._num_arrived += 1
        self._prefixes.cut(entry)
        self._estimates.look_up(entry)
        self._waiting[request_id] = entry
        self._queue.add(entry)

    def prefill_over(self, request_id: str, now_s: float) -> None:
        """Its prompt has been computed: the prefill worker answered, or the first token came.

        Raises:
            KeyError: it was not sent, or is over.
        """
        entry = self._sent[request_id]
        state = self._prefillers.states.get(entry.prefill_worker_id or "")
        if state is not None and request_id in state.prompts:
            num_tokens = entry.facts.num_prompt_tokens
            # A prefill worker answers when the KV has arrived; by then it computes the next one.
            decoder = self._decoder_of(entry)
            transfer = None if decoder is None else decoder.latency.models.transfer
            lag_s = self._handoff.lag_s(num_tokens, transfer) if state.is_prefill_only else 0.0
            lag_s = min(lag_s, now_s - entry.sent_at_s)
            entry.answered_at_s = now_s
            state.num_last_answered_tokens = num_tokens
            state.last_answered_transfer = transfer
            self._learning.prompt_computed(state, entry, now_s - lag_s, decoder)
            if state.is_prefill_only:
                self._passed_over.computed(entry, state, now_s)
            self._prompt_over(state, entry, now_s, lag_s)
            state.is_on_probation = False

    def first_token(self, request_id: str, now_s: float) -> None:
        """With prefill and decode apart: its first token came, after `prefill_over`.

        Raises:
            KeyError: it was not sent, or is over.
        """
        entry = self._sent[request_id]
        if entry.answered_at_s is not None:
            self._handoff.observe_join(max(0.0, now_s - entry.answered_at_s))

    def over(
        self,
        request_id: str,
        now_s: float,
        num_output_tokens: int | None,
        decode_s: float | None = None,
    ) -> None:
        """The request has ended, or its client left.

        Args:
            num_output_tokens: of a complete answer; None: it is not complete.
            decode_s: from its first token to its last; None: unknown.

        Raises:
            KeyError: it is not here.
        """
        entry = self._waiting.pop(request_id, None)
        if entry is not None:
            self._queue.remove(entry)
            self._placement.gone(entry)
            return
        entry = self._sent.pop(request_id)
        prefiller = self._prefillers.states.get(entry.prefill_worker_id or "")
        if prefiller is not None and request_id in prefiller.prompts:
            if num_output_tokens is not None:
                # Nobody knows when its prompt was computed, but it was.
                self._learning.prompt_computed(prefiller, entry, now_s, None, is_told=False)
                prefiller.is_on_probation = False
            self._prompt_over(prefiller, entry, now_s)
        decoder = self._decoder_of(entry)
        if decoder is not None:
            if num_output_tokens is not None:
                if decode_s is not None:
                    self._learning.decoded(decoder, entry, now_s, num_output_tokens, decode_s)
                else:
                    self._learning.answered(decoder, entry, now_s, num_output_tokens)
            self._running_over(decoder, entry)
        if num_output_tokens is not None:
            self._lengths.observe(entry.facts.class_name, num_output_tokens)

    # --- decisions ---

    def decide(self, now_s: float) -> list[Action]:
        """Return what to do now, in this order. What is returned counts as done.

        A request that is recalled waits again; it is sent by a later call at the earliest.
        """
        actions: list[Action] = []
        self._has_recalled = False
        recalled: list[Entry] = []
        if self._waiting:
            self._prefillers.settle(now_s)
        else:
            self._prefillers.settle_piles(now_s)
        if self._prefillers.next_overdue_s <= now_s:
            recalled = self._recall_stuck(now_s, actions)
        if self._passed_over.next_s <= now_s:
            recalled += self._recall_passed_over(now_s, actions)
        self._placement.begin(now_s, are_all_new=not self._has_left)
        while self._waiting and (move := self._placement.next_move(now_s)) is not None:
            actions.append(self._send(move, now_s))
        if self._config.on_infeasible is OnInfeasible.REJECT:
            while (late := self._queue.oldest_demoted()) is not None:
                actions.append(self._reject(late, now_s))
        for entry in recalled:
            self._waiting[entry.facts.request_id] = entry
            self._queue.add(entry)
            self._has_recalled = True
        if not self._waiting:
            self._prefillers.settle_piles(now_s)
        self._has_left = bool(self._waiting)
        return actions

    def next_decision_s(self, now_s: float) -> float:
        """Return when to ask `decide` again though nothing happens before; `math.inf`: never.

        To be asked after `decide`: workers that are ready and got nothing wait for an event.
        """
        if self._has_recalled:
            return now_s + _RECALL_PAUSE_S
        pool = self._prefillers
        instants_s = [self._passed_over.next_s]
        if self._waiting:
            instants_s += (pool.next_overdue_s, pool.next_ready_s, self._placement.recheck_at_s)
        elif pool.has_piles:
            instants_s.append(pool.next_overdue_s)
        return min([at_s for at_s in instants_s if at_s > now_s], default=math.inf)

    def _send(self, move: Move, now_s: float) -> Dispatch:
        entry, prefiller, decoder, reason = move.entry, move.prefiller, move.decoder, move.reason
        request_id = entry.facts.request_id
        worker_id = prefiller.worker_id
        if entry.grains:
            self._estimates.look_at_last(entry)
        entry.prefill_s = self._estimates.prefill_s(entry, worker_id)
        entry.step_s = self._estimates.step_s(decoder, entry)
        candidates = self._explainer.candidates(entry, prefiller, now_s)
        entry.prefill_worker_id = worker_id
        entry.worker_id = decoder.worker_id
        entry.sent_at_s = now_s
        entry.passed_over_at_s = None
        if self._pairs.has_due:
            self._pairs.taken(worker_id, decoder.worker_id, now_s)
        self._placement.sent(move)
        self._queue.remove(entry)
        del self._waiting[request_id]
        self._sent[request_id] = entry
        if prefiller.is_unified:
            prefiller.pace(entry, now_s, self._prefillers.prefill_share(prefiller))
        prefiller.add_prompt(entry, now_s)
        if entry.facts.slo.e2e_s < math.inf:
            self._bound_tpot(entry)
        decoder.add_running(entry)
        self._prefillers.touch(prefiller)
        if decoder is not prefiller:
            self._decoders.touch(decoder)
        if entry.grains:
            self._prefixes.remember(worker_id, entry)
        is_on_time = entry.prefill_ends_at_s <= entry.deadline_s
        self._kept.count(entry, is_kept=is_on_time)
        if not is_on_time and reason is not Reason.AGED:
            reason = Reason.LATE
        return Dispatch(
            request_id,
            entry.worker_id,
            None if prefiller.is_unified else worker_id,
            is_on_time,
            entry.prefill_s,
            entry.hit_tokens.get(worker_id, 0),
            _priority(entry.deadline_s - entry.prefill_ends_at_s),
            self._explainer.decision(entry, now_s, reason, entry.prefill_ends_at_s, candidates),
        )

    def _reject(self, entry: Entry, now_s: float) -> Rejection:
        start_s, speed = self._prefillers.capacity(now_s)
        begins_at_s = start_s + self._queue.backlog_s / speed
        self._queue.remove(entry)
        del self._waiting[entry.facts.request_id]
        self._placement.gone(entry)
        self._kept.count(entry, is_kept=False)
        allowed_s = entry.deadline_s - entry.facts.arrived_at_s
        retry_after_s = math.inf
        if entry.service_s <= allowed_s:
            retry_after_s = max(0.0, begins_at_s + entry.service_s - allowed_s - now_s)
        return Rejection(
            request_id=entry.facts.request_id,
            retry_after_s=retry_after_s,
            decision=self._explainer.decision(
                entry,
                now_s,
                Reason.INFEASIBLE,
                begins_at_s + entry.service_s,
                self._explainer.candidates(entry, None, now_s),
            ),
        )

    def _recall_stuck(self, now_s: float, actions: list[Action]) -> list[Entry]:
        """Take back what waits on workers that are stuck; return it."""
        recalled: list[Entry] = []
        self._prefillers.settle(now_s)
        for state in self._prefillers.overdue(now_s):
            oldest = state.oldest_prompt()
            for entry in list(state.prompts.values()):
                is_begun = entry is oldest or not entry.facts.is_prefill_told
                if is_begun or entry.num_recalls >= self._config.max_recalls:
                    continue
                actions.append(self._take_back(state, entry, now_s, Reason.STUCK))
                recalled.append(entry)
        return recalled

    def _recall_passed_over(self, now_s: float, actions: list[Action]) -> list[Entry]:
        """Take back what prefill workers have passed over for long; return it."""
        recalled: list[Entry] = []
        for entry, state in self._passed_over.take(now_s):
            # A worker that has left keeps what its driver has ended.
            is_over = self._sent.get(entry.facts.request_id) is not entry
            if is_over or entry.num_recalls >= self._config.max_recalls:
                continue
            actions.append(self._take_back(state, entry, now_s, Reason.PASSED_OVER))
            # It was not the worker that did not come back.
            state.is_stuck = False
            if self._prefillers.states.get(state.worker_id) is state:
                self._prefillers.touch(state)
            recalled.append(entry)
        return recalled

    def _take_back(self, state: WorkerState, entry: Entry, now_s: float, reason: Reason) -> Recall:
        request_id = entry.facts.request_id
        del self._sent[request_id]
        state.prompt_over(entry, now_s)
        decoder = self._decoder_of(entry)
        if decoder is not None:
            self._running_over(decoder, entry)
        entry.num_recalls += 1
        entry.avoided_ids |= {state.worker_id}
        decision = self._explainer.decision(entry, now_s, reason, now_s + entry.service_s, ())
        entry.worker_id = entry.prefill_worker_id = None
        return Recall(request_id=request_id, decision=decision)

    # --- accounts ---

    def _decoder_of(self, entry: Entry) -> WorkerState | None:
        worker_id = entry.worker_id or ""
        return self._prefillers.states.get(worker_id) or self._decoders.states.get(worker_id)

    def _prompt_over(
        self, state: WorkerState, entry: Entry, now_s: float, lag_s: float = 0.0
    ) -> None:
        state.prompt_over(entry, now_s, lag_s)
        state.is_stuck = False
        self._prefillers.touch(state)

    def _running_over(self, state: WorkerState, entry: Entry) -> None:
        state.running_over(entry)
        pool = self._decoders if state.facts.role is Role.DECODE else self._prefillers
        pool.touch(state)

    # --- promises ---

    def _first_token_by_s(self, facts: RequestFacts, num_output_tokens: int) -> float:
        """Return when its first token must be there for its promises to be kept."""
        if self._config.order is Order.ARRIVAL:
            return facts.arrived_at_s + _NEVER_LATE_S
        slo = facts.slo
        ttft_s = slo.ttft_s
        if slo.e2e_s < math.inf:
            pool = self._decoders if self._decoders.states else self._prefillers
            pool.settle(facts.arrived_at_s)
            step_s = self._estimates.least_step_s(pool)
            ttft_s = min(ttft_s, slo.e2e_s - (num_output_tokens - 1) * step_s)
        return facts.arrived_at_s + (ttft_s if ttft_s < math.inf else _NO_PROMISE_TTFT_S)

    def _bound_tpot(self, entry: Entry) -> None:
        """An end-to-end promise bounds the time per token, too."""
        facts = entry.facts
        if entry.expected_output_tokens > 1:
            left_s = facts.arrived_at_s + facts.slo.e2e_s - entry.prefill_ends_at_s
            tpot_s = max(left_s, 0.0) / (entry.expected_output_tokens - 1)
            # An end-to-end promise that is lost already binds nobody.
            if tpot_s > entry.step_s:
                entry.tpot_s = min(facts.slo.tpot_s, tpot_s)


def _priority(slack_s: float) -> int:
    """Return how urgent a request is that has so much time to spare: 0 late, 9 none, and one less
    each time that the slack and 50 ms double."""
    if slack_s < 0.0:
        return 0
    return max(1, _TOP_PRIORITY - int(math.log2(1.0 + slack_s / _PRIORITY_SLACK_S)))
