"""Forms the steps of an engine and accounts for them; knows nothing of roles and events."""

from hfx_sgl.engine.admission import Admission
from hfx_sgl.engine.counters import Counters
from hfx_sgl.engine.kv_store import KvStore
from hfx_sgl.engine.new_token_ratio import NewTokenRatio
from hfx_sgl.engine.preemption import retraction_order
from hfx_sgl.engine.running import RunningSet
from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart, StepTimes
from hfx_sgl.engine.steps import DecodeStretch, PrefillStep
from hfx_sgl.engine.waiting import SequenceQueue


class Batch:
    """The waiting queue, the running batch and the memory of one engine."""

    def __init__(self, spec: EngineSpec, step_times: StepTimes, now_s: float) -> None:
        self._spec = spec
        self._step_times = step_times
        self.extra_step_s = 0.0
        """Each step takes so much longer."""
        self.store = KvStore(spec.kv_capacity_tokens, spec.page_tokens, spec.has_prefix_cache)
        self.waiting = SequenceQueue(spec.has_priority)
        self.running = RunningSet(spec.page_tokens)
        self.ratio = NewTokenRatio(spec.schedule_conservativeness)
        self.admission = Admission(spec, self.store, self.waiting, self.running, self.ratio)
        self.counters = Counters(now_s)
        self._num_entries = 0

    def enqueue(self, sequence: Sequence, max_queued: int | None) -> Sequence | None:
        """Put a sequence into the waiting queue; return who has no place there, if it is full.

        With priorities the newest of the lowest gives way to one that is higher.
        """
        waiting = self.waiting
        loser = None
        if max_queued is not None and len(waiting) >= max_queued:
            loser = waiting.last()
            outranks = self._spec.has_priority and (
                loser is not None and sequence.priority > loser.priority
            )
            if loser is None or not outranks:
                return sequence
            waiting.remove(loser)
        sequence.state = SequenceState.WAITING
        sequence.entry_no = self._num_entries
        self._num_entries += 1
        waiting.append(sequence)
        return loser

    def form_prefill(
        self, now_s: float, num_rows_taken: int
    ) -> tuple[PrefillStep | None, list[Sequence]]:
        """Form a prefill step, if there is anything to compute and room for it.

        Returns:
            The step, and the sequences that were preempted: they hold nothing, are in no queue.
        """
        if not len(self.waiting) and self.admission.chunked is None:
            return None, []
        chunks, preempted = self.admission.form(num_rows_taken)
        if not chunks:
            return None, preempted
        running = self.running
        num_running = 0
        if self._spec.has_mixed_chunk and len(running):
            num_needed = running.num_tokens_needed(1)
            # Without room for all of them they sit out this step.
            if num_needed <= self.store.num_available_tokens:
                self.store.alloc(num_needed)
                num_running = len(running)
        for chunk in chunks:
            if chunk.sequence.scheduled_at_s is None:
                chunk.sequence.scheduled_at_s = now_s
                chunk.sequence.num_cached_tokens = chunk.num_prefix_tokens
        self.counters.hit_rate.observe(chunks, now_s)
        parts = [PrefillPart(chunk.num_tokens, chunk.num_prefix_tokens) for chunk in chunks]
        step_s = (
            self._step_times.mixed_s(parts, num_running, running.num_kv_tokens)
            if num_running
            else self._step_times.prefill_s(parts)
        )
        end_s = now_s + (step_s + self._overhead_s(len(chunks) + num_running))
        return PrefillStep(chunks, num_running, start_s=now_s, end_s=end_s), preempted

    def form_decode(self, now_s: float) -> tuple[DecodeStretch | None, list[Sequence]]:
        """Form a stretch of decode steps, as long as the batch stays the same.

        Returns:
            The stretch, and the sequences that were retracted for want of memory: they hold
            nothing and are in no queue.
        """
        running = self.running
        if not len(running):
            return None, []
        retracted = self._make_room()
        if not len(running):
            return None, retracted
        num_steps = running.num_steps_to_finish()
        if self.admission.retries_each_step:
            num_steps = 1
        num_steps = running.num_steps_within(self.store.num_available_tokens, num_steps)
        stretch = DecodeStretch(
            self._step_times,
            start_s=now_s,
            num_running=len(running),
            num_context_tokens=running.num_kv_tokens,
            num_steps=num_steps,
            overhead_s=self._overhead_s(len(running)),
        )
        return stretch, retracted

    def end_prefill(self, step: PrefillStep) -> None:
        """Account for a prefill step; the running requests in it have their token."""
        self.counters.prefill_ended(step)
        if step.num_running:
            self.running.run(1)

    def account(self, stretch: DecodeStretch, num_ended: int) -> None:
        """Account for the steps of a stretch up to `num_ended`."""
        num_steps = num_ended - stretch.num_done
        if num_steps:
            self.store.alloc(self.running.num_tokens_needed(num_steps))
            self.running.run(num_steps)
            self.ratio.decay(num_steps)
            stretch.num_done = num_ended

    def end_decode(self, stretch: DecodeStretch) -> None:
        """Account for the end of a stretch."""
        self.account(stretch, stretch.num_steps)
        self.counters.decode_ended(stretch, stretch.num_steps)

    def _make_room(self) -> list[Sequence]:
        """Retract running sequences until one step more has room.

        A sequence that has the memory for itself always has room. If even the last one goes,
        prompts that are between two chunks, or on their way here, hold the rest.
        """
        running = self.running
        store = self.store
        retracted: list[Sequence] = []
        if running.num_tokens_needed(1) <= store.num_available_tokens:
            return retracted
        running.update_outputs()
        for sequence in retraction_order(running):
            running.remove(sequence)
            store.release(sequence)
            retracted.append(sequence)
            if running.num_tokens_needed(1) <= store.num_available_tokens:
                break
        self.ratio.raise_for(running)
        self.admission.is_full = False
        return retracted

    def _overhead_s(self, num_requests: int) -> float:
        spec = self._spec
        return (
            spec.host_overhead_s
            + num_requests * spec.host_overhead_per_request_s
            + self.extra_step_s
        )
