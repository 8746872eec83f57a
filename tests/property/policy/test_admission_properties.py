from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hfx_sgl.policy.admission import Admission, AdmissionConfig, AdmissionOutcome

TIMEOUT_S = 10.0


class AdmissionMachine(RuleBasedStateMachine):
    """Keeps its own books on every ticket and compares."""

    @initialize(
        max_concurrent=st.none() | st.integers(1, 4),
        queue_size=st.integers(0, 5),
        rate_per_s=st.none() | st.sampled_from([0.2, 1.0, 2.5]),
    )
    def open(self, max_concurrent: int | None, queue_size: int, rate_per_s: float | None) -> None:
        self.max_concurrent = max_concurrent
        self.queue_size = queue_size
        self.rate_per_s = rate_per_s
        self.admission = Admission(
            AdmissionConfig(
                max_concurrent=max_concurrent,
                queue_size=queue_size,
                queue_timeout_s=TIMEOUT_S,
                rate_per_s=rate_per_s,
            )
        )
        self.now_s = 0.0
        self.next_ticket = 0
        self.waiting: dict[int, float] = {}
        self.active: set[int] = set()
        self.num_ended = 0
        self.let_in_at_s: list[float] = []

    def let_in(self, ticket: int) -> None:
        self.active.add(ticket)
        self.let_in_at_s.append(self.now_s)

    def let_in_from_queue(self, tickets: list[int]) -> None:
        assert tickets == list(self.waiting)[: len(tickets)], "first come, first served"
        for ticket in tickets:
            del self.waiting[ticket]
            self.let_in(ticket)

    @rule(duration_s=st.sampled_from([0.0, 0.1, 1.0, 4.0]))
    def wait(self, duration_s: float) -> None:
        self.now_s += duration_s

    @rule()
    def offer(self) -> None:
        ticket = self.next_ticket
        self.next_ticket += 1
        has_slot = self.max_concurrent is None or len(self.active) < self.max_concurrent
        outcome = self.admission.offer(ticket, self.now_s)
        if outcome is AdmissionOutcome.ALLOWED:
            assert has_slot
            assert not self.waiting, "nobody overtakes"
            self.let_in(ticket)
        elif outcome is AdmissionOutcome.QUEUED:
            self.waiting[ticket] = self.now_s
        else:
            assert len(self.waiting) == self.queue_size
            refused = AdmissionOutcome.RATE_LIMITED if has_slot else AdmissionOutcome.QUEUE_FULL
            assert outcome is refused
            self.num_ended += 1

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.active.remove(data.draw(st.sampled_from(sorted(self.active))))
        self.num_ended += 1
        ticket = self.admission.release(self.now_s)
        if ticket is not None:
            self.let_in_from_queue([ticket])
        elif self.rate_per_s is None:
            assert not self.waiting, "a free slot is handed on"

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.integers(0, self.next_ticket))
        assert self.admission.cancel(ticket) is (ticket in self.waiting)
        if self.waiting.pop(ticket, None) is not None:
            self.num_ended += 1

    @rule()
    def expire(self) -> None:
        due = [t for t, at_s in self.waiting.items() if self.now_s >= at_s + TIMEOUT_S]
        assert self.admission.expire(self.now_s) == due
        for ticket in due:
            del self.waiting[ticket]
        self.num_ended += len(due)

    @rule()
    def poll(self) -> None:
        self.let_in_from_queue(self.admission.poll(self.now_s))

    @rule()
    def wake(self) -> None:
        wakes_at_s = self.admission.wakes_at_s
        assert (wakes_at_s is None) is (not self.waiting)
        if wakes_at_s is None:
            return
        self.now_s = max(self.now_s, wakes_at_s)
        num_waiting = len(self.waiting)
        self.let_in_from_queue(self.admission.poll(self.now_s))
        self.expire()
        assert len(self.waiting) < num_waiting, "waking at the given instant is never in vain"

    @rule()
    def retry_after(self) -> None:
        assert 1.0 <= self.admission.retry_after_s(self.now_s) <= TIMEOUT_S

    @invariant()
    def books_agree(self) -> None:
        assert self.admission.num_active == len(self.active)
        assert self.admission.num_queued == len(self.waiting) <= self.queue_size
        assert len(self.active) <= (self.max_concurrent or self.next_ticket)
        assert len(self.active) + len(self.waiting) + self.num_ended == self.next_ticket

    def teardown(self) -> None:
        if not hasattr(self, "admission"):
            return
        self.check_rate()
        # Whatever happened, everybody who waits is let in or expires once the active ones leave.
        while self.active or self.waiting:
            if self.active:
                self.active.pop()
                self.num_ended += 1
                ticket = self.admission.release(self.now_s)
                self.let_in_from_queue([] if ticket is None else [ticket])
            else:
                self.wake()
        self.books_agree()

    def check_rate(self) -> None:
        """In no stretch of time more were let in than rate and burst permit."""
        if self.rate_per_s is None:
            return
        burst = max(1.0, self.rate_per_s) + 0.001
        for i, start_s in enumerate(self.let_in_at_s):
            for num, end_s in enumerate(self.let_in_at_s[i:], start=1):
                assert num <= burst + self.rate_per_s * (end_s - start_s)


TestAdmission = AdmissionMachine.TestCase
TestAdmission.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
