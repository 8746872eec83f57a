from dataclasses import dataclass

from hfx_router.exchange.gate import AdmissionGate
from hfx_router.metrics.recorder import Recorder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import RequestError
from hfx_sgl.policy.admission import Admission, AdmissionConfig

TIMEOUT_S = 10.0


@dataclass(eq=False)
class Applicant:
    """Ends at most once; a hasty one ends as soon as it is let in."""

    gate: AdmissionGate
    ticket: int
    is_hasty: bool
    state: str = "waiting"

    def admitted(self) -> None:
        assert self.state == "waiting"
        self.state = "active"
        if self.is_hasty:
            self.leave()

    def refused(self, error: RequestError) -> None:
        assert self.state == "waiting"
        assert error.http_status == 429
        assert error.retry_after_s is not None
        self.state = "refused"

    def leave(self) -> None:
        self.state = "left in the queue" if self.state == "waiting" else "served"
        self.gate.leave(self.ticket)


class GateMachine(RuleBasedStateMachine):
    """Whatever requests do, every slot and every place in the queue comes back."""

    @initialize(
        max_concurrent=st.none() | st.integers(1, 3),
        queue_size=st.integers(0, 4),
        rate_per_s=st.none() | st.sampled_from([0.5, 2.0]),
    )
    def build(self, max_concurrent: int | None, queue_size: int, rate_per_s: float | None) -> None:
        self.max_concurrent = max_concurrent
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.admission = Admission(
            AdmissionConfig(
                max_concurrent=max_concurrent,
                queue_size=queue_size,
                queue_timeout_s=TIMEOUT_S,
                rate_per_s=rate_per_s,
            )
        )
        self.gate = AdmissionGate(self.admission, self.recorder, self.clock.now_s)
        self.applicants: list[Applicant] = []

    def those(self, state: str) -> list[Applicant]:
        return [applicant for applicant in self.applicants if applicant.state == state]

    @rule(is_hasty=st.booleans())
    def apply(self, is_hasty: bool) -> None:
        applicant = Applicant(self.gate, self.gate.draw_ticket(), is_hasty)
        self.applicants.append(applicant)
        self.gate.apply(applicant.ticket, applicant)

    @precondition(lambda self: self.those("active"))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.those("active"))).leave()

    @precondition(lambda self: self.those("waiting"))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.those("waiting"))).leave()

    @rule(duration_s=st.sampled_from([0.0, 0.5, 3.0, TIMEOUT_S]))
    def sweep(self, duration_s: float) -> None:
        self.clock.advance(duration_s)
        self.gate.sweep()

    @invariant()
    def books_agree(self) -> None:
        num_active, num_waiting = len(self.those("active")), len(self.those("waiting"))
        assert self.admission.num_active == num_active
        assert self.admission.num_queued == num_waiting
        assert self.gate.num_waiting == self.recorder.num_queued == num_waiting
        assert self.max_concurrent is None or num_active <= self.max_concurrent
        assert self.recorder.admissions.total() == len(self.applicants) - num_waiting

    def teardown(self) -> None:
        if not hasattr(self, "gate"):
            return
        while self.those("active") or self.those("waiting"):
            for applicant in self.those("active"):
                applicant.leave()
            self.sweep(TIMEOUT_S)
        self.books_agree()
        assert self.admission.num_active == 0


TestGate = GateMachine.TestCase
TestGate.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
