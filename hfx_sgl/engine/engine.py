"""One engine: the object that simulator and emulated worker drive."""

import math
from collections.abc import Sequence as Ordered

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
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.engine.load_report import engine_load
from hfx_sgl.engine.receiver import KvReceiver
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.sender import KvSender
from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.engine.steps import DecodeStretch, PrefillStep
from hfx_sgl.types import Role


class Engine:
    """Continuous batching of one server.

    Instants never decrease from call to call. An input at `now_s` changes what happens after
    `now_s`: a step under way is finished as it was begun. Events wait for the next `advance`.
    A step that can begin at `now_s` takes in all inputs of that instant: it begins when
    `advance` is called, or when time has gone on.

    The way of a request by role:

    - regular: `submit`; `FirstToken`; `Finished`.
    - prefill: `submit`; somebody calls `kv_granted` once the decode side has room; `FirstToken`;
      `KvSent`; `Finished`.
    - decode: `submit`; `KvAllocated`; somebody calls `kv_arrived` after the prefill engine's
      `KvSent`; `FirstToken`; `Finished`.
    """

    def __init__(
        self, spec: EngineSpec, step_times: StepTimes, *, now_s: float, is_started: bool = False
    ) -> None:
        """Begin to start at `now_s`; with `is_started`, be ready at once."""
        self._spec = spec
        self._role = spec.role
        self._ready_at_s = now_s if is_started else now_s + spec.startup_s
        self._now_s = now_s
        self._sequences: dict[str, Sequence] = {}
        self._bootstrap: dict[str, Sequence] = {}
        self._batch = Batch(spec, step_times, now_s)
        self._receiver = KvReceiver(spec, self._batch.store, self._batch.running)
        self._sender = KvSender(
            bytes_per_s=spec.handoff_bytes_per_s,
            latency_s=spec.handoff_latency_s,
            bytes_per_token=spec.kv_bytes_per_token,
        )
        self._step: PrefillStep | DecodeStretch | None = None
        # Whether something has changed since nothing more could be formed.
        self._may_form = False
        # Ended from outside while a step computes them.
        self._doomed: list[Sequence] = []
        self._events: list[EngineEvent] = []

    @property
    def role(self) -> Role:
        """What it does at present; while it changes its role, the new one."""
        return self._role

    @property
    def ready_at_s(self) -> float:
        """When the start or the change of role under way ends, or when the last one ended."""
        return self._ready_at_s

    @property
    def is_idle(self) -> bool:
        """Whether it has no request at all."""
        return not self._sequences

    def submit(self, request: EngineRequest, now_s: float) -> None:
        """Take a request.

        Raises:
            EngineRefusal: it cannot be taken; says why.
        """
        self._run_to(now_s)
        if now_s < self._ready_at_s:
            raise EngineRefusal(RefusalReason.NOT_READY, "the server is not ready")
        if request.request_id in self._sequences:
            raise EngineRefusal(
                RefusalReason.DUPLICATE, f"request {request.request_id!r} is here already"
            )
        capacity_tokens = self._batch.store.capacity_tokens
        max_new_tokens = granted_new_tokens(self._spec, self._role, request, capacity_tokens)
        sequence = Sequence(request, max_new_tokens, SequenceState.BOOTSTRAP, now_s)
        if self._role is Role.REGULAR:
            loser = self._batch.enqueue(sequence, self._spec.max_queued_requests)
            if loser is sequence:
                raise EngineRefusal(RefusalReason.QUEUE_FULL, "the request queue is full")
            if loser is not None:
                self._finish(loser, FinishReason.EVICTED)
            if self._batch.admission.can_admit:
                self._disturb()
        elif self._role is Role.PREFILL:
            self._bootstrap[request.request_id] = sequence
        else:
            self._receiver.submit(sequence)
            self._disturb()
        self._sequences[request.request_id] = sequence

    def kv_granted(self, request_id: str, now_s: float) -> None:
        """Prefill role: the decode side has room, so the prompt may be scheduled.

        A request that is not (or no longer) here is ignored; the same holds for the calls below.
        """
        self._run_to(now_s)
        sequence = self._bootstrap.pop(request_id, None)
        if sequence is not None:
            self._batch.enqueue(sequence, None)
            self._disturb()

    def kv_arrived(self, request_id: str, now_s: float) -> None:
        """Decode role: the KV of the whole prompt is here."""
        self._run_to(now_s)
        sequence = self._receiver.transfers.get(request_id)
        if sequence is not None:
            self._receiver.arrive(sequence)
            if len(self._batch.running) < self._spec.max_running_requests:
                self._disturb()

    def handoff_failed(self, request_id: str, now_s: float) -> None:
        """The other side is gone: end the request, if it still depends on the other side."""
        self._run_to(now_s)
        sequence = self._sequences.get(request_id)
        if sequence is not None and (
            self._role is Role.PREFILL
            or sequence.state in (SequenceState.PREALLOC, SequenceState.TRANSFER)
        ):
            self._end(sequence, FinishReason.HANDOFF_FAILED)

    def abort(self, request_id: str, now_s: float) -> None:
        """End a request; its `Finished` has the reason `ABORTED`.

        One that is waiting ends at once, one in a step at the end of the step.
        """
        self._run_to(now_s)
        sequence = self._sequences.get(request_id)
        if sequence is not None:
            self._end(sequence, FinishReason.ABORTED)

    def switch_role(self, role: Role, now_s: float) -> None:
        """Begin to change the role; `ready_at_s` says when it is done.

        The prefix cache is empty afterwards.

        Raises:
            EngineRefusal: NOT_READY, it is not idle or a change is under way.
        """
        self._run_to(now_s)
        if self._sequences or now_s < self._ready_at_s:
            raise EngineRefusal(RefusalReason.NOT_READY, "the server is not idle")
        self._role = role
        self._ready_at_s = now_s + self._spec.flip_s
        self._batch.store.clear()

    def set_extra_step_s(self, extra_step_s: float, now_s: float) -> None:
        """Make each step from the next one on take longer (`/slow_down`)."""
        self._run_to(now_s)
        self._batch.extra_step_s = extra_step_s
        self._disturb()

    def flush_cache(self, now_s: float) -> bool:
        """Empty the prefix cache; False, and nothing done, while there are requests."""
        self._run_to(now_s)
        if self._sequences:
            return False
        self._batch.store.clear()
        return True

    def next_event_s(self) -> float:
        """Return a lower bound of when the next event comes; `math.inf` when none is pending.

        Calling `advance` with it makes progress even where no event comes of it. Many decode
        steps may lie before it: nothing is computed token by token. The present instant while
        there are events to be fetched or a step can begin.
        """
        return self._now_s if self._is_pending else self._next_s()

    def next_step_s(self) -> float:
        """Return when the step (or transfer) under way ends; `math.inf` when nothing runs.

        The present instant while there are events to be fetched or a step can begin.
        """
        if self._is_pending:
            return self._now_s
        step = self._step
        if isinstance(step, DecodeStretch):
            self._batch.account(step, step.num_ended(self._now_s))
            return step.next_end_s
        return self._next_s()

    def advance(self, now_s: float) -> Ordered[EngineEvent]:
        """Let time pass up to `now_s` and return the events up to then, in order of time."""
        self._run_to(now_s)
        self._settle()
        self._account()
        events = self._events
        self._events = []
        return events

    def num_output_tokens(self, request_id: str) -> int:
        """Return how many tokens the request has produced by the last `advance`.

        Raises:
            KeyError: no such request here.
        """
        sequence = self._sequences[request_id]
        if sequence.state is SequenceState.RUNNING:
            return self._batch.running.num_outputs(sequence)
        return sequence.num_outputs

    def load(self, now_s: float) -> EngineLoad:
        """Return what `/v1/loads` would say."""
        self._run_to(now_s)
        self._account()
        step = self._step
        counters = self._batch.counters
        return engine_load(
            self._spec,
            self._role,
            self._batch,
            counters.with_stretch(step) if isinstance(step, DecodeStretch) else counters,
            self._receiver,
            self._bootstrap.values(),
            num_sending=self._sender.num_sending,
            now_s=now_s,
        )

    @property
    def _is_pending(self) -> bool:
        """Whether `advance` has something to do at the present instant."""
        return bool(self._events) or (self._may_form and self._step is None)

    def _next_s(self) -> float:
        """Return when something ends that is under way."""
        step_end_s = math.inf if self._step is None else self._step.end_s
        if self._role is Role.PREFILL:
            return min(step_end_s, self._sender.next_s())
        return step_end_s

    def _run_to(self, now_s: float) -> None:
        """Let time pass. A step that may begin at `now_s` itself is left to `_settle`."""
        if now_s < self._now_s:
            raise ValueError(f"time goes back from {self._now_s} to {now_s}")
        while True:
            while self._may_form and self._step is None and self._now_s < now_s:
                self._form()
            at_s = self._next_s()
            if at_s > now_s:
                break
            self._now_s = at_s
            self._pass()
        self._now_s = now_s

    def _settle(self) -> None:
        """Begin what may begin at the present instant."""
        while self._may_form and self._step is None:
            self._form()
            if self._step is not None and self._step.end_s <= self._now_s:
                self._run_to(self._now_s)

    def _pass(self) -> None:
        """Deal with what ends at the present instant."""
        if self._role is Role.PREFILL:
            for sent in self._sender.advance(self._now_s):
                self._batch.counters.sent(sent.num_bytes, sent.duration_s)
                self._events.append(KvSent(at_s=sent.at_s, request_id=sent.sequence.request_id))
                self._finish(sent.sequence, FinishReason.LENGTH)
                self._may_form = True
        step = self._step
        if step is not None and step.end_s <= self._now_s:
            if isinstance(step, PrefillStep):
                self._end_prefill(step)
            else:
                self._batch.end_decode(step)
            self._step = None
            self._may_form = True
            self._retire()

    def _form(self) -> None:
        """Form the next step from what there is at the present instant."""
        self._may_form = False
        batch = self._batch
        if self._role is Role.DECODE:
            self._receive()
        else:
            num_sending = self._sender.num_sending
            self._step, preempted = batch.form_prefill(self._now_s, num_sending)
            self._requeue(preempted)
        if self._step is None:
            self._step, retracted = batch.form_decode(self._now_s)
            self._requeue(retracted)
            if retracted and self._step is None:
                self._may_form = True
        if self._step is None and not self._sequences:
            batch.ratio.reset()

    def _receive(self) -> None:
        """Decode role: bring back, reserve, and let join, in this order."""
        receiver = self._receiver
        running = self._batch.running
        receiver.restore()
        for sequence in receiver.allocate():
            self._events.append(KvAllocated(at_s=self._now_s, request_id=sequence.request_id))
        for sequence in receiver.join():
            if not sequence.num_outputs:
                sequence.num_outputs = 1
                sequence.scheduled_at_s = self._now_s
                self._first_token(sequence)
            if sequence.num_outputs >= sequence.target_tokens:
                self._finish_fully(sequence)
                self._may_form = True
            else:
                running.add(sequence)
                receiver.joined(sequence)

    def _end_prefill(self, step: PrefillStep) -> None:
        """Hand out what a prefill step has computed."""
        batch = self._batch
        batch.end_prefill(step)
        for chunk in step.chunks:
            sequence = chunk.sequence
            if sequence.doom is not None:
                continue
            if self._role is Role.PREFILL:
                self._sender.send(chunk, self._now_s)
            if not chunk.is_last:
                batch.admission.is_full = False
                continue
            sequence.num_outputs += 1
            batch.store.keep_prompt(sequence)
            self._first_token(sequence)
            if self._role is Role.PREFILL:
                sequence.state = SequenceState.SENDING
            elif sequence.num_outputs >= sequence.target_tokens:
                self._finish_fully(sequence)
            else:
                batch.running.add(sequence)

    def _retire(self) -> None:
        """End who is done, or was ended from outside, with the step that has just ended."""
        for sequence in self._batch.running.pop_finished():
            self._finish_fully(sequence)
        for sequence in self._doomed:
            if sequence.state is not SequenceState.ENDED and sequence.doom is not None:
                self._detach(sequence)
                self._finish(sequence, sequence.doom)
        self._doomed.clear()

    def _requeue(self, sequences: list[Sequence]) -> None:
        """Let wait again who has lost its memory."""
        for sequence in sequences:
            sequence.num_retractions += 1
            self._batch.counters.num_retractions += 1
            if self._role is Role.DECODE:
                self._receiver.retract(sequence)
            else:
                loser = self._batch.enqueue(sequence, self._spec.max_queued_requests)
                if loser is not None:
                    self._finish(loser, FinishReason.EVICTED)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a sequence at once, or with the step under way if that computes it."""
        if self._step is not None and sequence.state in (
            SequenceState.PREFILL,
            SequenceState.RUNNING,
        ):
            if sequence.doom is None:
                sequence.doom = reason
                self._doomed.append(sequence)
        else:
            self._detach(sequence)
            self._finish(sequence, reason)
        self._disturb()

    def _detach(self, sequence: Sequence) -> None:
        """Take a sequence out of where it is."""
        state = sequence.state
        if state is SequenceState.BOOTSTRAP:
            del self._bootstrap[sequence.request_id]
        elif state is SequenceState.WAITING:
            self._batch.waiting.remove(sequence)
        elif state is SequenceState.PREFILL:
            if self._batch.admission.chunked is sequence:
                self._batch.admission.chunked = None
            self._sender.cancel(sequence, self._now_s, is_computed=False)
        elif state is SequenceState.SENDING:
            self._sender.cancel(sequence, self._now_s, is_computed=True)
        elif state is SequenceState.RUNNING:
            self._batch.running.remove(sequence)
        else:
            self._receiver.remove(sequence)

    def _first_token(self, sequence: Sequence) -> None:
        if sequence.first_token_at_s is None:
            sequence.first_token_at_s = self._now_s
            self._events.append(FirstToken(at_s=self._now_s, request_id=sequence.request_id))

    def _finish_fully(self, sequence: Sequence) -> None:
        """End a sequence that has produced what it had to."""
        is_limit = sequence.target_tokens >= sequence.max_new_tokens
        self._finish(sequence, FinishReason.LENGTH if is_limit else FinishReason.STOP)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        """Let a sequence leave that is in no queue; all that it holds is given back."""
        self._batch.store.release(sequence)
        self._batch.admission.is_full = False
        self._batch.counters.finished(sequence)
        sequence.state = SequenceState.ENDED
        del self._sequences[sequence.request_id]
        begun_at_s = self._now_s if sequence.scheduled_at_s is None else sequence.scheduled_at_s
        self._events.append(
            Finished(
                at_s=self._now_s,
                request_id=sequence.request_id,
                reason=reason,
                num_output_tokens=sequence.num_outputs,
                num_cached_tokens=sequence.num_cached_tokens,
                num_retractions=sequence.num_retractions,
                queue_s=begun_at_s - sequence.submitted_at_s,
                first_token_at_s=sequence.first_token_at_s,
            )
        )

    def _account(self) -> None:
        """Count the decode steps that have ended by the present instant."""
        step = self._step
        if isinstance(step, DecodeStretch):
            self._batch.account(step, step.num_ended(self._now_s))

    def _disturb(self) -> None:
        """Let the batch be formed anew after the step under way."""
        self._may_form = True
        self._account()
        if isinstance(self._step, DecodeStretch):
            self._step.cut()
