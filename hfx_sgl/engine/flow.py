"""The way of sequences through an engine, by role: who moves on when a step or transfer ends."""

from hfx_sgl.engine.batch import Batch
from hfx_sgl.engine.events import (
    EngineEvent,
    Finished,
    FinishReason,
    FirstToken,
    KvAllocated,
    KvSent,
)
from hfx_sgl.engine.limits import granted_new_tokens
from hfx_sgl.engine.receiver import KvReceiver
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.sender import KvSender
from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.engine.steps import DecodeStretch, PrefillStep
from hfx_sgl.types import Role

COMPUTING = (SequenceState.PREFILL, SequenceState.RUNNING)
"""States in which a step under way may be computing a sequence."""


class Flow:
    """The sequences of one engine and the parts that hold them; knows nothing of when.

    Whoever drives it says what the instant is. What happens is appended to `events`.
    """

    def __init__(self, spec: EngineSpec, step_times: StepTimes, now_s: float) -> None:
        self.role = spec.role
        self.sequences: dict[str, Sequence] = {}
        self.bootstrap: dict[str, Sequence] = {}
        self.batch = Batch(spec, step_times, now_s)
        self.receiver = KvReceiver(spec, self.batch.store, self.batch.running)
        self.sender = KvSender(
            bytes_per_s=spec.handoff_bytes_per_s,
            latency_s=spec.handoff_latency_s,
            bytes_per_token=spec.kv_bytes_per_token,
        )
        self.events: list[EngineEvent] = []
        self._spec = spec
        # Ended from outside while a step computes them.
        self._doomed: list[Sequence] = []

    def take(self, request: EngineRequest, now_s: float) -> bool:
        """Take a request into the queue of the role.

        Returns:
            Whether it may change the next step.

        Raises:
            EngineRefusal: it cannot be taken.
        """
        if request.request_id in self.sequences:
            raise EngineRefusal(
                RefusalReason.DUPLICATE, f"request {request.request_id!r} is here already"
            )
        batch = self.batch
        max_new_tokens = granted_new_tokens(
            self._spec, self.role, request, batch.store.capacity_tokens
        )
        sequence = Sequence(request, max_new_tokens, SequenceState.BOOTSTRAP, now_s)
        may_change = True
        if self.role is Role.REGULAR:
            loser = batch.enqueue(sequence, self._spec.max_queued_requests)
            if loser is sequence:
                raise EngineRefusal(RefusalReason.QUEUE_FULL, "the request queue is full")
            if loser is not None:
                self._finish(loser, FinishReason.EVICTED, now_s)
            may_change = batch.admission.can_admit
        elif self.role is Role.PREFILL:
            self.bootstrap[request.request_id] = sequence
            may_change = False
        else:
            self.receiver.submit(sequence)
        self.sequences[request.request_id] = sequence
        return may_change

    def grant(self, request_id: str) -> bool:
        """Prefill role: let a prompt be scheduled; whether it was waiting for that."""
        sequence = self.bootstrap.pop(request_id, None)
        if sequence is not None:
            self.batch.enqueue(sequence, None)
        return sequence is not None

    def arrive(self, request_id: str) -> bool:
        """Decode role: the KV is here; whether that may change the next step."""
        sequence = self.receiver.transfers.get(request_id)
        if sequence is None:
            return False
        self.receiver.arrive(sequence)
        return len(self.batch.running) < self._spec.max_running_requests

    def depends_on_peer(self, sequence: Sequence) -> bool:
        """Whether a sequence cannot go on without the other side of its hand-off."""
        return self.role is Role.PREFILL or sequence.state in (
            SequenceState.PREALLOC,
            SequenceState.TRANSFER,
        )

    def end(self, sequence: Sequence, reason: FinishReason, now_s: float, *, is_step: bool) -> None:
        """End a sequence at once, or with the step under way if that may compute it."""
        if is_step and sequence.state in COMPUTING:
            if sequence.doom is None:
                sequence.doom = reason
                self._doomed.append(sequence)
        else:
            self._detach(sequence, now_s)
            self._finish(sequence, reason, now_s)

    def form(self, now_s: float) -> tuple[PrefillStep | DecodeStretch | None, bool]:
        """Form the next step from what there is.

        Returns:
            The step, and whether another attempt would find more, at the same instant.
        """
        batch = self.batch
        step: PrefillStep | DecodeStretch | None = None
        has_left = False
        if self.role is Role.DECODE:
            has_left = self._receive(now_s)
        else:
            step, preempted = batch.form_prefill(now_s, self.sender.num_sending)
            self._requeue(preempted, now_s)
            has_left = len(preempted) > 0
        if step is None:
            step, retracted = batch.form_decode(now_s)
            self._requeue(retracted, now_s)
            has_left = has_left or len(retracted) > 0
        if step is None and not self.sequences:
            batch.ratio.reset()
        return step, has_left

    def end_step(self, step: PrefillStep | DecodeStretch, now_s: float) -> None:
        """Hand out what a step has computed; end who is done, or was ended from outside."""
        if isinstance(step, PrefillStep):
            self._end_prefill(step, now_s)
        else:
            self.batch.end_decode(step)
        for sequence in self.batch.running.pop_finished():
            self._finish_fully(sequence, now_s)
        for sequence in self._doomed:
            if sequence.state is not SequenceState.ENDED and sequence.doom is not None:
                self._detach(sequence, now_s)
                self._finish(sequence, sequence.doom, now_s)
        self._doomed.clear()

    def end_transfers(self, now_s: float) -> bool:
        """Prefill role: end whose KV has been sent; whether there was any."""
        all_sent = self.sender.advance(now_s)
        for sent in all_sent:
            self.batch.counters.sent(sent.num_bytes, sent.duration_s)
            self.events.append(KvSent(at_s=now_s, request_id=sent.sequence.request_id))
            self._finish(sent.sequence, FinishReason.LENGTH, now_s)
        return len(all_sent) > 0

    def _receive(self, now_s: float) -> bool:
        """Decode role: bring back, reserve, and let join; whether anybody left at once."""
        receiver = self.receiver
        has_left = False
        receiver.restore()
        for sequence in receiver.allocate():
            self.events.append(KvAllocated(at_s=now_s, request_id=sequence.request_id))
        for sequence in receiver.join():
            if not sequence.num_outputs:
                sequence.num_outputs = 1
                sequence.scheduled_at_s = now_s
                self._first_token(sequence, now_s)
            if sequence.num_outputs >= sequence.target_tokens:
                self._finish_fully(sequence, now_s)
                has_left = True
            else:
                self.batch.running.add(sequence)
                receiver.joined(sequence)
        return has_left

    def _end_prefill(self, step: PrefillStep, now_s: float) -> None:
        batch = self.batch
        batch.end_prefill(step)
        for chunk in step.chunks:
            sequence = chunk.sequence
            if sequence.doom is not None:
                continue
            if self.role is Role.PREFILL:
                self.sender.send(chunk, now_s)
            if not chunk.is_last:
                batch.admission.is_full = False
                continue
            sequence.num_outputs += 1
            batch.store.keep_prompt(sequence)
            self._first_token(sequence, now_s)
            if self.role is Role.PREFILL:
                sequence.state = SequenceState.SENDING
            elif sequence.num_outputs >= sequence.target_tokens:
                self._finish_fully(sequence, now_s)
            else:
                batch.running.add(sequence)

    def _requeue(self, sequences: list[Sequence], now_s: float) -> None:
        """Let wait again who has lost its memory."""
        for sequence in sequences:
            sequence.num_retractions += 1
            self.batch.counters.num_retractions += 1
            if self.role is Role.DECODE:
                self.receiver.retract(sequence)
            else:
                loser = self.batch.enqueue(sequence, self._spec.max_queued_requests)
                if loser is not None:
                    self._finish(loser, FinishReason.EVICTED, now_s)

    def _detach(self, sequence: Sequence, now_s: float) -> None:
        """Take a sequence out of where it is."""
        state = sequence.state
        if state is SequenceState.BOOTSTRAP:
            del self.bootstrap[sequence.request_id]
        elif state is SequenceState.WAITING:
            self.batch.waiting.remove(sequence)
        elif state is SequenceState.PREFILL:
            if self.batch.admission.chunked is sequence:
                self.batch.admission.chunked = None
            self.sender.cancel(sequence, now_s, is_computed=False)
        elif state is SequenceState.SENDING:
            self.sender.cancel(sequence, now_s, is_computed=True)
        elif state is SequenceState.RUNNING:
            self.batch.running.remove(sequence)
        else:
            self.receiver.remove(sequence)

    def _first_token(self, sequence: Sequence, now_s: float) -> None:
        if sequence.first_token_at_s is None:
            sequence.first_token_at_s = now_s
            self.events.append(FirstToken(at_s=now_s, request_id=sequence.request_id))

    def _finish_fully(self, sequence: Sequence, now_s: float) -> None:
        """End a sequence that has produced what it had to."""
        is_limit = sequence.target_tokens >= sequence.max_new_tokens
        self._finish(sequence, FinishReason.LENGTH if is_limit else FinishReason.STOP, now_s)

    def _finish(self, sequence: Sequence, reason: FinishReason, now_s: float) -> None:
        """Let a sequence leave that is in no queue; all that it holds is given back."""
        self.batch.store.release(sequence)
        self.batch.admission.is_full = False
        self.batch.counters.finished(sequence)
        sequence.state = SequenceState.ENDED
        del self.sequences[sequence.request_id]
        scheduled_at_s = now_s if sequence.scheduled_at_s is None else sequence.scheduled_at_s
        self.events.append(
            Finished(
                at_s=now_s,
                request_id=sequence.request_id,
                reason=reason,
                num_output_tokens=sequence.num_outputs,
                num_cached_tokens=sequence.num_cached_tokens,
                num_retractions=sequence.num_retractions,
                queue_s=scheduled_at_s - sequence.submitted_at_s,
                first_token_at_s=sequence.first_token_at_s,
            )
        )
