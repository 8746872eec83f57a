"""Lets requests in as admission decides, and keeps those waiting that may wait."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from hfx_router.metrics.recorder import Recorder
from hfx_sgl.errors import EvictedError, RejectedError, RequestError
from hfx_sgl.policy.admission import Admission, AdmissionOutcome


class Applicant(Protocol):
    """A request that wants to be served."""

    def admitted(self) -> None:
        """It holds a slot; it gives it back with `AdmissionGate.leave`."""
        ...

    def refused(self, error: RequestError) -> None:
        """It does not get one."""
        ...


class AdmissionGate:
    """Acts on the decisions of `Admission`."""

    def __init__(
        self, admission: Admission, recorder: Recorder, now_s: Callable[[], float]
    ) -> None:
        self._admission = admission
        self._recorder = recorder
        self._now_s = now_s
        self._waiting: dict[int, tuple[Applicant, float]] = {}
        self._let_in: deque[int] = deque()
        """Tickets that admission let in and whose applicants have not been told."""
        self._is_letting_in = False
        self._next_ticket = 0

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def draw_ticket(self) -> int:
        """Return the ticket under which a new request applies and leaves."""
        self._next_ticket += 1
        return self._next_ticket

    def apply(self, ticket: int, applicant: Applicant) -> None:
        """Decide about a new request; may call its `admitted` or `refused` before it returns."""
        now_s = self._now_s()
        outcome = self._admission.offer(ticket, now_s)
        if outcome is AdmissionOutcome.QUEUED:
            self._waiting[ticket] = (applicant, now_s)
            self._recorder.num_queued = len(self._waiting)
            return
        self._recorder.admissions[outcome.value] += 1
        if outcome is AdmissionOutcome.ALLOWED:
            applicant.admitted()
        else:
            applicant.refused(
                RejectedError(
                    "too many requests are under way and the queue is full"
                    if outcome is AdmissionOutcome.QUEUE_FULL
                    else "the request rate exceeds the limit",
                    code=outcome.value,
                    retry_after_s=self._admission.retry_after_s(now_s),
                )
            )

    def leave(self, ticket: int) -> None:
        """Give back the slot or the place in the queue."""
        if self._waiting.pop(ticket, None) is not None and self._admission.cancel(ticket):
            self._recorder.admissions[AdmissionOutcome.CANCELLED.value] += 1
            self._recorder.num_queued = len(self._waiting)
            return
        now_s = self._now_s()
        admitted = self._admission.release(now_s)
        if admitted is not None:
            self._admit((admitted,), now_s)

    def _admit(self, tickets: Iterable[int], now_s: float) -> None:
        """Let waiting requests in; one that left meanwhile has given its slot back itself.

        A request that ends at once lets the next one in from within its `admitted`; those queue up
        here, since a call inside a call for each would outgrow the stack.
        """
        self._let_in.extend(tickets)
        if self._is_letting_in:
            return
        self._is_letting_in = True
        try:
            while self._let_in:
                waiting = self._waiting.pop(self._let_in.popleft(), None)
                self._recorder.num_queued = len(self._waiting)
                if waiting is not None:
                    applicant, queued_at_s = waiting
                    self._recorder.admissions[AdmissionOutcome.ALLOWED.value] += 1
                    self._recorder.admission_s.observe(now_s - queued_at_s)
                    applicant.admitted()
        finally:
            self._is_letting_in = False

    def sweep(self) -> None:
        """Let in whom a refilled rate lets in, and send away who waited too long."""
        now_s = self._now_s()
        self._admit(self._admission.poll(now_s), now_s)
        for ticket in self._admission.expire(now_s):
            waiting = self._waiting.pop(ticket, None)
            if waiting is None:
                continue
            self._recorder.num_queued = len(self._waiting)
            self._recorder.admissions[AdmissionOutcome.QUEUE_DEADLINE_EXCEEDED.value] += 1
            waiting[0].refused(
                EvictedError(
                    "the request waited in the queue for as long as it may (--queue-timeout-secs)",
                    retry_after_s=self._admission.retry_after_s(now_s),
                )
            )
