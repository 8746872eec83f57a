"""Says why a request went where it went, in numbers."""

from hfx_sgl.policy.scheduler.decision import NOT_SENT, Candidate, Decision, Reason
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.estimates import Estimates
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.queue import WaitingQueue
from hfx_sgl.policy.scheduler.worker_state import WorkerState

_NUM_OTHERS = 3


class Explainer:
    """Makes decisions of what the scheduler holds at that moment."""

    def __init__(self, estimates: Estimates, queue: WaitingQueue, prefillers: WorkerPool) -> None:
        self._estimates = estimates
        self._queue = queue
        self._prefillers = prefillers

    def candidates(
        self, entry: Entry, chosen: WorkerState | None, now_s: float
    ) -> tuple[Candidate, ...]:
        """Return the chosen worker, that with the prefix, and the least loaded ones, as seen."""
        found = [] if chosen is None else [self._chosen(entry, chosen, now_s)]
        home = self._prefillers.states.get(entry.home_id) if entry.home_id is not None else None
        if home is not None and home is not chosen:
            found.append(self._candidate(entry, home, now_s))
        # Where nobody else waits there was no choice to explain; a light load stays cheap.
        num_looks = _NUM_OTHERS + 1 if len(self._queue) > 1 else 0
        for state in self._prefillers.ready.states[:num_looks]:
            if len(found) > _NUM_OTHERS:
                break
            if state is not chosen and state is not home:
                found.append(self._candidate(entry, state, now_s))
        return tuple(found)

    def decision(
        self,
        entry: Entry,
        now_s: float,
        reason: Reason,
        computed_at_s: float,
        candidates: tuple[Candidate, ...],
    ) -> Decision:
        """Return the decision on a request whose prompt will be computed by then, as expected."""
        facts = entry.facts
        is_sent = reason not in NOT_SENT
        return Decision(
            facts.request_id,
            facts.class_name,
            now_s,
            now_s - facts.arrived_at_s,
            reason,
            entry.worker_id if is_sent else None,
            entry.prefill_worker_id if is_sent else None,
            computed_at_s + entry.handoff_s - facts.arrived_at_s,
            entry.step_s,
            entry.deadline_s - computed_at_s,
            facts.num_prompt_tokens,
            entry.hit_tokens.get(entry.prefill_worker_id or "", 0),
            entry.expected_output_tokens,
            len(self._queue),
            self._queue.num_demoted,
            candidates,
        )

    def _chosen(self, entry: Entry, state: WorkerState, now_s: float) -> Candidate:
        """Return where it is sent; what that takes was predicted just before."""
        return Candidate(
            state.worker_id,
            max(0.0, state.free_at_s - now_s),
            entry.prefill_s,
            entry.hit_tokens.get(state.worker_id, 0),
            None if state.is_prefill_only else entry.step_s,
            entry.kv_tokens <= state.room_tokens,
        )

    def _candidate(self, entry: Entry, state: WorkerState, now_s: float) -> Candidate:
        return Candidate(
            state.worker_id,
            max(0.0, state.free_at_s - now_s),
            self._estimates.prefill_s(entry, state.worker_id),
            entry.hit_tokens.get(state.worker_id, 0),
            None if state.is_prefill_only else self._estimates.step_s(state, entry),
            entry.kv_tokens <= state.room_tokens,
        )
