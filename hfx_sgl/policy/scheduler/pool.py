"""The workers of one stage, in the orders in which they are looked for."""

import math

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.ranking import Ranking
from hfx_sgl.policy.scheduler.worker_state import WorkerState

_COLD_GRACE_S = 10.0
"""What a prefill may take longer than expected while nothing is known of the workers."""
_LATER_S = 0.02
"""A worker that will be ready later by this much may be waited for no longer."""
_MAX_CAUTION = 1.5
"""A residual beyond this says that the model is wrong, and not how much to keep in reserve."""


class WorkerPool:
    """Those that compute prompts, or those that only decode.

    Whoever changes a worker's state says so by `touch`; `settle` brings the orders up to date, so
    that several changes between two decisions cost as much as one.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.states: dict[str, WorkerState] = {}
        self.ready = Ranking()
        """Those that may be sent something, the least loaded first."""
        self.ready_ids: set[str] = set()
        """Them, too."""
        self.version = 0
        """Changes with who is ready or can be used, and when somebody will be ready later."""
        self.changed_ids: set[str] = set()
        """Who became ready, cannot be used any more or will be ready later, be it by a little. Who
        reads it clears it."""
        self._coming = Ranking()
        """The others, by when they will be ready."""
        self._roomy = Ranking()
        """By free KV, most first."""
        self._overdue = Ranking()
        """By when the prompt that they have will have taken far too long."""
        self.most_room_tokens = 0.0
        """The largest KV that a usable worker had left when this was last settled; 0: no worker."""
        self._config = config
        self._touched: dict[str, WorkerState] = {}
        self._speed = 0.0
        self._num_counted = 0
        self._busy_until_s = 0.0
        """A sum over those that are not ready."""
        self._num_busy = 0
        self._num_piles = 0

    @property
    def roomiest(self) -> WorkerState | None:
        """The usable worker that has it."""
        return self._roomy.states[0] if self._roomy.states else None

    @property
    def next_ready_s(self) -> float:
        """When the next one will be ready; `math.inf`: not by itself."""
        return self._coming.lowest

    @property
    def next_overdue_s(self) -> float:
        """When the next one will be stuck, if nothing comes back from it."""
        return self._overdue.lowest

    @property
    def has_piles(self) -> bool:
        """Whether prompts wait on a worker for others there."""
        return self._num_piles > 0

    @property
    def num_usable(self) -> int:
        """Workers that can be used, busy ones included."""
        return self._num_counted

    def add(self, state: WorkerState) -> None:
        """A worker joined."""
        self.states[state.worker_id] = state
        self.touch(state)

    def remove(self, worker_id: str) -> bool:
        """A worker left; return whether it was here."""
        state = self.states.pop(worker_id, None)
        if state is None:
            return False
        self._touched.pop(worker_id, None)
        self._leave(state)
        self.changed_ids.discard(worker_id)
        return True

    def touch(self, state: WorkerState) -> None:
        """Something about a worker of this pool has changed."""
        self._touched[state.worker_id] = state

    def settle(self, now_s: float) -> None:
        """Bring the orders up to date."""
        if self._touched:
            for state in self._touched.values():
                self._place(state, now_s)
            self._touched.clear()
            self.most_room_tokens = -self._roomy.lowest if self._roomy.states else 0.0
        coming = self._coming
        while coming.states and coming.lowest <= now_s:
            state = coming.states[0]
            step_s = state.latency.decode_s(state.num_running + 1, state.context_tokens)
            self._make_ready(state, step_s)

    def settle_piles(self, now_s: float) -> None:
        """Do so if it changes on which workers prompts wait for others."""
        for state in self._touched.values():
            if state.is_counted_pile or len(state.prompts) > 1:
                self.settle(now_s)
                return

    def overdue(self, now_s: float) -> list[WorkerState]:
        """Return the workers that have become stuck. They stay so until something comes back."""
        found = []
        while self._overdue.lowest <= now_s:
            state = self._overdue.states[0]
            state.is_stuck = state.is_on_probation = True
            self._leave(state)
            found.append(state)
        return found

    def capacity(self, now_s: float) -> tuple[float, float]:
        """Return when the pool is free on average, and how much prefill it does per second."""
        busy_s = self._busy_until_s - self._num_busy * now_s
        return now_s + max(0.0, busy_s) / max(1, self._num_counted), max(self._speed, 1e-9)

    def prefill_share(self, state: WorkerState) -> float:
        """Return which share of a worker's time prefills may take from its decode steps."""
        if not state.is_unified or not state.num_running:
            return 1.0
        step_s = state.latency.decode_s(state.num_running + 1, state.context_tokens)
        return self._share_beside(state, step_s)

    def _share_beside(self, state: WorkerState, step_s: float) -> float:
        share = 1.0 - step_s / (state.tightest_tpot_s * self._config.tpot_margin)
        least = self._config.min_prefill_share
        return share if share > least else least

    def _place(self, state: WorkerState, now_s: float) -> None:
        if not state.is_usable or state.is_stuck:
            self._leave(state)
            return
        self._roomy.put(state, -state.room_tokens)
        is_pile = len(state.prompts) > 1
        if is_pile is not state.is_counted_pile:
            self._count_pile(state, is_pile)
        step_s = 0.0
        if not state.is_prefill_only:
            step_s = state.latency.decode_s(state.num_running + 1, state.context_tokens)
        self._count(state, step_s)
        if state.prompts:
            self._overdue.put(state, self._overdue_at_s(state))
        else:
            self._overdue.discard(state)
        before_s = state.ready_at_s
        state.ready_at_s = ready_at_s = self._ready_at_s(state)
        if ready_at_s <= now_s:
            self._make_ready(state, step_s)
            return
        if state.is_ready or ready_at_s > before_s + _LATER_S:
            self.version += 1
        if ready_at_s > before_s:
            self.changed_ids.add(state.worker_id)
        self.ready.discard(state)
        self.ready_ids.discard(state.worker_id)
        state.is_ready = False
        self._coming.put(state, ready_at_s)
        self._count_busy(state, max(state.free_at_s, now_s))

    def _make_ready(self, state: WorkerState, step_s: float) -> None:
        if not state.is_ready and self._coming.discard(state):
            self._count_busy(state, None)
        if state.is_prefill_only:
            self.ready.put(state, state.free_at_s)
        else:
            self.ready.put(state, step_s, state.free_at_s)
        self.version += 1
        state.is_ready = True
        self.ready_ids.add(state.worker_id)
        self.changed_ids.add(state.worker_id)

    def _leave(self, state: WorkerState) -> None:
        self.version += 1
        self.changed_ids.add(state.worker_id)
        for ranking in (self.ready, self._coming, self._roomy, self._overdue):
            ranking.discard(state)
        self.most_room_tokens = -self._roomy.lowest if self._roomy.states else 0.0
        self.ready_ids.discard(state.worker_id)
        state.is_ready = False
        self._count_busy(state, None)
        self._count_pile(state, False)
        if state.counted_share:
            self._num_counted -= 1
            self._speed -= state.counted_share
            state.counted_share = 0.0

    def _count(self, state: WorkerState, step_s: float) -> None:
        share = 1.0
        if state.is_unified and state.num_running:
            share = self._share_beside(state, step_s)
        share /= state.latency.prefill_speed.factor
        if not state.counted_share:
            self._num_counted += 1
        self._speed += share - state.counted_share
        state.counted_share = share

    def _count_busy(self, state: WorkerState, until_s: float | None) -> None:
        if state.counted_start_s is not None:
            self._num_busy -= 1
            self._busy_until_s -= state.counted_start_s
        state.counted_start_s = until_s
        if until_s is not None:
            self._num_busy += 1
            self._busy_until_s += until_s
        elif not self._num_busy:
            # No rounding errors are carried on for ever.
            self._busy_until_s = 0.0

    def _count_pile(self, state: WorkerState, is_pile: bool) -> None:
        self._num_piles += is_pile - state.is_counted_pile
        state.is_counted_pile = is_pile

    def _ready_at_s(self, state: WorkerState) -> float:
        config = self._config
        if state.prompts:
            most_s = config.lookahead_s + config.outstanding_s
            # The sum of all is known; to leave the first one out takes a look at each.
            if state.is_on_probation or (state.told_s > most_s and state.behind_s > most_s):
                return math.inf
        free_s = state.free_at_s - config.lookahead_s
        paced_s = state.paced_until_s - config.lookahead_s / 2
        return free_s if free_s > paced_s else paced_s

    def _overdue_at_s(self, state: WorkerState) -> float:
        oldest = state.oldest_prompt()
        if oldest is None:
            return math.inf
        fit = state.latency.models.prefill.fit
        ratio = self._config.overdue_ratio * min(max(fit.residual.p90_ratio, 1.0), _MAX_CAUTION)
        grace_s = self._config.overdue_s if fit.is_warm else _COLD_GRACE_S
        begun_at_s = max(oldest.sent_at_s, state.timing.last_end_s)
        return begun_at_s + ratio * oldest.prefill_s + grace_s
