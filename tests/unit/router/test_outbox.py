from collections.abc import Callable

from hfx_router.outbox import TurnOutbox
from support.fake_transport import FakeTransport


class Turns:
    """A loop that only remembers what to call at the end of the turn."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.outbox = TurnOutbox(self.callbacks.append)

    def end_turn(self) -> None:
        callbacks, self.callbacks[:] = list(self.callbacks), []
        for callback in callbacks:
            callback()


def test_the_first_write_of_a_turn_goes_out_at_once_and_the_others_at_its_end() -> None:
    turns, a, b = Turns(), FakeTransport(), FakeTransport()
    turns.outbox.write(a, b"1")
    turns.outbox.write(b, b"2")
    turns.outbox.write(a, b"3")
    assert (bytes(a.written), bytes(b.written)) == (b"1", b"")
    turns.end_turn()
    assert (bytes(a.written), bytes(b.written)) == (b"13", b"2")


def test_after_a_busy_turn_all_writes_wait_and_after_a_quiet_one_the_first_does_not() -> None:
    turns, a = Turns(), FakeTransport()
    for data in (b"1", b"2", b"3"):
        turns.outbox.write(a, data)
    turns.end_turn()
    turns.outbox.write(a, b"4")
    assert bytes(a.written) == b"123"
    turns.end_turn()
    assert bytes(a.written) == b"1234"
    turns.outbox.write(a, b"5")
    assert bytes(a.written) == b"12345", "there was only one in the turn before"


def test_a_turn_is_scheduled_once() -> None:
    turns, a = Turns(), FakeTransport()
    for _ in range(5):
        turns.outbox.write(a, b"x")
    assert len(turns.callbacks) == 1


def test_flushing_does_not_wait_for_the_end_and_sends_nothing_twice() -> None:
    turns, a = Turns(), FakeTransport()
    turns.outbox.write(a, b"1")
    turns.outbox.write(a, b"2")
    turns.outbox.flush()
    assert bytes(a.written) == b"12"
    turns.end_turn()
    assert bytes(a.written) == b"12"


def test_a_transport_that_was_closed_meanwhile_is_left_alone() -> None:
    turns, a, b = Turns(), FakeTransport(), FakeTransport()
    turns.outbox.write(a, b"1")
    turns.outbox.write(b, b"2")
    b.abort()
    turns.end_turn()
    assert bytes(b.written) == b""
