"""What workers report, and what their answers show, as observations for the latency models."""

import math

from hfx_sgl.policy.latency.prefill import Features
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.policy.scheduler.worker_state import WorkerState

_LEAST_DECODE_SHARE = 0.2
"""Less than this is never left of an answer's time when prefills are taken out of it."""
_INTERVAL_S = 0.02
"""Own timings are learnt from no more often than this: a fit costs as much as a decision."""
_LEAST_TOKENS = 8
"""Shorter answers say little of a step."""
_CLEARLY = 3.0
"""A prediction that is beyond this many times what can have passed is corrected by that; what is
nearer is left to measurements."""


class Learning:
    """Learns from reports where a worker keeps counters, else from the scheduler's own timing."""

    def __init__(self, config: SchedulerConfig) -> None:
        self._times_workers = config.times_workers
        self._next_prefill_s = self._next_step_s = -math.inf

    def report(self, state: WorkerState, report: WorkerReport) -> None:
        """A worker has told of itself."""
        before, state.last_report = state.last_report, report
        computed = state.take_computed()
        if computed.num_tokens or report.prefill_busy_s:
            state.keeps_no_counters = not report.prefill_busy_s
        if before is None:
            return
        latency = state.latency
        latency.observe_decode(
            before.decode_moments, report.decode_moments, report.mean_context_tokens
        )
        num_tokens = report.num_prefill_tokens - before.num_prefill_tokens
        busy_s = report.prefill_busy_s - before.prefill_busy_s
        if computed.features is not None and num_tokens > 0 and busy_s > 0:
            # The worker knows how much it found in its cache; the scheduler only guesses.
            ratio = num_tokens / computed.num_tokens
            num_prompts, few, many, pairs = computed.features
            latency.observe_prefills(
                (num_prompts, ratio * few, ratio * many, ratio * pairs), busy_s
            )
        else:
            latency.observe_prefills((), 0.0)  # what was seen of its speed fades all the same

    def prompt_computed(
        self,
        state: WorkerState,
        entry: Entry,
        now_s: float,
        decoder: WorkerState | None,
        *,
        is_told: bool = True,
    ) -> None:
        """A worker has computed a prompt, just now when `is_told`, else some time before.

        `decoder` begins to decode it; None: that is not to be timed.
        """
        features = state.prompt_computed(entry)
        state.prefilled_s += entry.prefill_s
        if decoder is not None:
            entry.timing = decoder.num_running, decoder.prefilled_s
        if not is_told:
            state.timing.interrupted(now_s)
        if not is_told or state.last_report is None:
            self._bound_prefill(state, features, entry.sent_at_s, now_s)
        if not is_told:
            return
        observed = state.timing.computed(features, entry.sent_at_s, now_s)
        if observed is None or not self._times_workers or now_s < self._next_prefill_s:
            return
        if _keeps_no_counters(state, now_s):
            self._next_prefill_s = now_s + _INTERVAL_S
            state.latency.models.prefill.observe_total(*observed)

    def decoded(
        self,
        state: WorkerState,
        entry: Entry,
        now_s: float,
        num_output_tokens: int,
        decode_s: float,
    ) -> None:
        """An answer is complete; its tokens after the first took that time."""
        if entry.timing is None or num_output_tokens < _LEAST_TOKENS:
            return
        if not self._times_workers or now_s < self._next_step_s or _counts_steps(state):
            return
        self._next_step_s = now_s + _INTERVAL_S
        num_running, prefilled_s = entry.timing
        # On a unified worker the prefills of others stood between its steps.
        own_s = max(decode_s - (state.prefilled_s - prefilled_s), _LEAST_DECODE_SHARE * decode_s)
        mean_running = 0.5 * (num_running + state.num_running)
        mean_context_tokens = entry.facts.num_prompt_tokens + num_output_tokens / 2
        if state.num_running:
            mean_context_tokens = state.context_tokens / state.num_running
        state.latency.models.decode.observe(
            mean_running, mean_running * mean_context_tokens, own_s / (num_output_tokens - 1)
        )

    def answered(
        self, state: WorkerState, entry: Entry, now_s: float, num_output_tokens: int
    ) -> None:
        """An answer is complete, and its steps took no longer than all of it.

        Where it was predicted that they take far longer, that was wrong.
        """
        if num_output_tokens < _LEAST_TOKENS:
            return
        step_s = (now_s - entry.sent_at_s) / (num_output_tokens - 1)
        if entry.step_s <= _CLEARLY * step_s or now_s < self._next_step_s or _counts_steps(state):
            return
        if self._times_workers:
            self._next_step_s = now_s + _INTERVAL_S
            state.latency.models.decode.observe(state.num_running, state.context_tokens, step_s)

    def _bound_prefill(
        self, state: WorkerState, features: Features, sent_at_s: float, now_s: float
    ) -> None:
        """Correct predictions that answers prove far too high, unless the worker counts itself."""
        report = state.last_report
        if not self._times_workers or (report is not None and report.prefill_busy_s):
            return
        bound = state.time_bound.answered(features, sent_at_s, now_s)
        model = state.latency.models.prefill
        if bound is not None and model.total_s(bound[0]) > _CLEARLY * bound[1]:
            model.observe_total(*bound)


def _keeps_no_counters(state: WorkerState, now_s: float) -> bool:
    """Whether a worker that has computed prompts does not say how long they took."""
    if state.last_report is None:
        return state.timing.is_silent(now_s)
    return state.keeps_no_counters


def _counts_steps(state: WorkerState) -> bool:
    return state.last_report is not None and len(state.last_report.decode_moments) > 0
