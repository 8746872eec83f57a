from dataclasses import dataclass, field

from hfx_router.exchange.gate import AdmissionGate
from hfx_router.metrics.recorder import Recorder

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import EvictedError, RejectedError, RequestError
from hfx_sgl.policy.admission import Admission, AdmissionConfig


class Door:
    """A gate with its inputs in reach."""

    def __init__(
        self,
        *,
        max_concurrent: int | None = 1,
        queue_size: int = 2,
        queue_timeout_s: float = 10.0,
        rate_per_s: float | None = None,
    ) -> None:
        self.clock = FakeClock(100.0)
        self.recorder = Recorder()
        self.admission = Admission(
            AdmissionConfig(
                max_concurrent=max_concurrent,
                queue_size=queue_size,
                queue_timeout_s=queue_timeout_s,
                rate_per_s=rate_per_s,
            )
        )
        self.gate = AdmissionGate(self.admission, self.recorder, self.clock.now_s)

    def knock(self, *, is_hasty: bool = False) -> "Visitor":
        visitor = Visitor(self.gate, self.gate.draw_ticket(), is_hasty)
        self.gate.apply(visitor.ticket, visitor)
        return visitor


@dataclass
class Visitor:
    """Notes what the gate says; a hasty one leaves as soon as it is in."""

    gate: AdmissionGate
    ticket: int
    is_hasty: bool
    heard: list[str] = field(default_factory=list)
    error: RequestError | None = None

    def admitted(self) -> None:
        self.heard.append("admitted")
        if self.is_hasty:
            self.leave()

    def refused(self, error: RequestError) -> None:
        self.heard.append(error.code)
        self.error = error

    def leave(self) -> None:
        self.gate.leave(self.ticket)


def test_in_then_queued_then_refused() -> None:
    door = Door(max_concurrent=1, queue_size=2)
    visitors = [door.knock() for _ in range(4)]
    assert [visitor.heard for visitor in visitors] == [["admitted"], [], [], ["queue_full"]]
    assert door.gate.num_waiting == door.recorder.num_queued == 2
    error = visitors[3].error
    assert isinstance(error, RejectedError)
    assert error.http_status == 429
    assert error.retry_after_s == 10.0, "no slot has come free yet, so the queue's timeout"


def test_tickets_differ() -> None:
    gate = Door().gate
    assert len({gate.draw_ticket() for _ in range(100)}) == 100


def test_leaving_lets_the_next_in() -> None:
    door = Door()
    first, second, third = (door.knock() for _ in range(3))
    door.clock.advance(3.0)
    first.leave()
    assert (second.heard, third.heard) == (["admitted"], [])
    assert door.recorder.num_queued == 1
    assert door.recorder.admissions == {"allowed": 2}
    assert door.recorder.admission_s.num_observed == 1
    assert door.recorder.admission_s.total == 3.0


def test_leaving_the_queue_frees_its_place() -> None:
    door = Door(queue_size=1)
    first, second = door.knock(), door.knock()
    second.leave()
    assert door.recorder.num_queued == 0
    third = door.knock()
    first.leave()
    assert (second.heard, third.heard) == ([], ["admitted"])
    assert door.recorder.admissions == {"allowed": 2, "cancelled": 1}


def test_waiting_too_long() -> None:
    door = Door(queue_timeout_s=10.0)
    first, second = door.knock(), door.knock()
    door.clock.advance(9.0)
    door.gate.sweep()
    assert second.heard == []
    door.clock.advance(1.0)
    door.gate.sweep()
    assert second.heard == ["queue_deadline_exceeded"]
    assert isinstance(second.error, EvictedError)
    assert second.error.retry_after_s is not None
    assert "--queue-timeout-secs" in second.error.message
    assert door.recorder.num_queued == 0
    first.leave()
    assert second.heard == ["queue_deadline_exceeded"], "nobody comes back"
    assert door.admission.num_active == 0


def test_a_refilled_rate_lets_in() -> None:
    door = Door(max_concurrent=None, queue_size=5, rate_per_s=1.0)
    first, second, third = (door.knock() for _ in range(3))
    assert (first.heard, second.heard, third.heard) == (["admitted"], [], [])
    door.clock.advance(1.0)
    door.gate.sweep()
    assert (second.heard, third.heard) == (["admitted"], [])


def test_rate_refusal_has_its_own_code() -> None:
    door = Door(max_concurrent=None, queue_size=0, rate_per_s=1.0)
    door.knock()
    refused = door.knock()
    assert refused.heard == ["rate_limited"]
    assert "rate" in str(refused.error)


def test_a_long_queue_of_requests_that_end_at_once_does_not_pile_up() -> None:
    door = Door(queue_size=5000)
    first = door.knock()
    hasty = [door.knock(is_hasty=True) for _ in range(5000)]
    first.leave()
    assert {tuple(visitor.heard) for visitor in hasty} == {("admitted",)}
    assert (door.admission.num_active, door.gate.num_waiting) == (0, 0)


def test_one_that_leaves_before_it_is_told_gives_its_slot_back() -> None:
    class Jealous(Visitor):
        def admitted(self) -> None:
            super().admitted()
            last.leave()

    door = Door(max_concurrent=None, queue_size=2, rate_per_s=2.0)
    for _ in range(2):
        door.knock()
    jealous = Jealous(door.gate, door.gate.draw_ticket(), is_hasty=False)
    door.gate.apply(jealous.ticket, jealous)
    last = door.knock()
    door.clock.advance(5.0)
    door.gate.sweep()
    assert (jealous.heard, last.heard) == (["admitted"], [])
    assert (door.admission.num_active, door.gate.num_waiting) == (3, 0)


def test_an_applicant_that_fails_does_not_shut_the_door() -> None:
    class Failing(Visitor):
        def admitted(self) -> None:
            raise RuntimeError("broken")

    door = Door()
    first = door.knock()
    failing = Failing(door.gate, door.gate.draw_ticket(), is_hasty=False)
    door.gate.apply(failing.ticket, failing)
    last = door.knock()
    try:
        first.leave()
    except RuntimeError:
        failing.leave()
    assert last.heard == ["admitted"]
