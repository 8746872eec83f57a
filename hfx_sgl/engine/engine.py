"""One engine: the object that simulator and emulated worker drive. Owns the time of its parts."""

import math
from collections.abc import Sequence

from hfx_sgl.engine.events import EngineEvent, FinishReason
from hfx_sgl.engine.flow import Flow
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.engine.load_report import engine_load
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.sequence import SequenceState
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
        self._flow = Flow(spec, step_times, now_s)
        self._ready_at_s = now_s if is_started else now_s + spec.startup_s
        self._now_s = now_s
        self._step: PrefillStep | DecodeStretch | None = None
        # Whether something has changed since nothing more could be formed.
        self._may_form = False

    @property
    def role(self) -> Role:
        """What it does at present; while it changes its role, the new one."""
        return self._flow.role

    @property
    def ready_at_s(self) -> float:
        """When the start or the change of role under way ends, or when the last one ended."""
        return self._ready_at_s

    @property
    def is_idle(self) -> bool:
        """Whether it has no request at all."""
        return not self._flow.sequences

    def submit(self, request: EngineRequest, now_s: float) -> None:
        """Take a request.

        Raises:
            EngineRefusal: it cannot be taken; says why.
        """
        self._run_to(now_s)
        if now_s < self._ready_at_s:
            raise EngineRefusal(RefusalReason.NOT_READY, "the server is not ready")
        if self._flow.take(request, now_s):
            self._disturb()

    def kv_granted(self, request_id: str, now_s: float) -> None:
        """Prefill role: the decode side has room, so the prompt may be scheduled.

        A request that is not (or no longer) here is ignored; the same holds for the calls below.
        """
        self._run_to(now_s)
        if self._flow.grant(request_id):
            self._disturb()

    def kv_arrived(self, request_id: str, now_s: float) -> None:
        """Decode role: the KV of the whole prompt is here."""
        self._run_to(now_s)
        if self._flow.arrive(request_id):
            self._disturb()

    def handoff_failed(self, request_id: str, now_s: float) -> None:
        """The other side is gone: end the request, if it still depends on the other side."""
        self._run_to(now_s)
        sequence = self._flow.sequences.get(request_id)
        if sequence is not None and self._flow.depends_on_peer(sequence):
            self._end(request_id, FinishReason.HANDOFF_FAILED)

    def abort(self, request_id: str, now_s: float) -> None:
        """End a request; its `Finished` has the reason `ABORTED`.

        One that is waiting ends at once, one in a step at the end of the step.
        """
        self._run_to(now_s)
        if request_id in self._flow.sequences:
            self._end(request_id, FinishReason.ABORTED)

    def switch_role(self, role: Role, now_s: float) -> None:
        """Begin to change the role; `ready_at_s` says when it is done.

        The prefix cache is empty afterwards.

        Raises:
            EngineRefusal: NOT_READY, it is not idle or a change is under way.
        """
        self._run_to(now_s)
        if not self.is_idle or now_s < self._ready_at_s:
            raise EngineRefusal(RefusalReason.NOT_READY, "the server is not idle")
        self._flow.role = role
        self._flow.batch.store.clear()
        self._ready_at_s = now_s + self._spec.flip_s

    def set_extra_step_s(self, extra_step_s: float, now_s: float) -> None:
        """Make each step from the next one on take longer (`/slow_down`)."""
        self._run_to(now_s)
        self._flow.batch.extra_step_s = extra_step_s
        self._disturb()

    def flush_cache(self, now_s: float) -> bool:
        """Empty the prefix cache; False, and nothing done, while there are requests."""
        self._run_to(now_s)
        if self.is_idle:
            self._flow.batch.store.clear()
        return self.is_idle

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
            self._account()
            return step.next_end_s
        return self._next_s()

    def advance(self, now_s: float) -> Sequence[EngineEvent]:
        """Let time pass up to `now_s` and return the events up to then, in order of time."""
        self._run_to(now_s)
        while self._may_form and self._step is None:
            self._form()
            if self._step is not None and self._step.end_s <= now_s:
                self._run_to(now_s)
        self._account()
        flow = self._flow
        events = flow.events
        flow.events = []
        return events

    def num_output_tokens(self, request_id: str) -> int:
        """Return how many tokens the request has produced by the last `advance`.

        Raises:
            KeyError: no such request here.
        """
        sequence = self._flow.sequences[request_id]
        if sequence.state is SequenceState.RUNNING:
            return self._flow.batch.running.num_outputs(sequence)
        return sequence.num_outputs

    def load(self, now_s: float) -> EngineLoad:
        """Return what `/v1/loads` would say."""
        self._run_to(now_s)
        self._account()
        step = self._step if isinstance(self._step, DecodeStretch) else None
        return engine_load(self._spec, self._flow, step, now_s)

    @property
    def _is_pending(self) -> bool:
        """Whether `advance` has something to do at the present instant."""
        return bool(self._flow.events) or (self._may_form and self._step is None)

    def _next_s(self) -> float:
        """Return when something ends that is under way."""
        step_end_s = math.inf if self._step is None else self._step.end_s
        if self._flow.role is Role.PREFILL:
            return min(step_end_s, self._flow.sender.next_s())
        return step_end_s

    def _run_to(self, now_s: float) -> None:
        """Let time pass. A step that can begin at `now_s` itself is left to `advance`."""
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

    def _pass(self) -> None:
        """Deal with what ends at the present instant."""
        flow = self._flow
        if flow.role is Role.PREFILL and flow.end_transfers(self._now_s):
            self._may_form = True
        step = self._step
        if step is not None and step.end_s <= self._now_s:
            flow.end_step(step, self._now_s)
            self._step = None
            self._may_form = True

    def _form(self) -> None:
        self._step, self._may_form = self._flow.form(self._now_s)

    def _end(self, request_id: str, reason: FinishReason) -> None:
        flow = self._flow
        flow.end(flow.sequences[request_id], reason, self._now_s, is_step=self._step is not None)
        self._disturb()

    def _account(self) -> None:
        """Count the decode steps that have ended by the present instant."""
        step = self._step
        if isinstance(step, DecodeStretch):
            self._flow.batch.account(step, step.num_ended(self._now_s))

    def _disturb(self) -> None:
        """Let the batch be formed anew after the step under way."""
        self._may_form = True
        self._account()
        if isinstance(self._step, DecodeStretch):
            self._step.cut()
