"""Single paths through the book, each the shortest one on which a rule matters."""

import math

import pytest
from hfx_transfer.kv.book import MAX_TICK_S, Entry, ReceiverBook
from hfx_transfer.kv.pages import PageAllocator
from hfx_transfer.kv.receiver_states import IncomingEvent, IncomingState

NUM_PAGES = 4
HOLD_S = 1.0


class Book:
    """A book with one hand-off that sender `a` has taken up."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self.allocator = PageAllocator(NUM_PAGES)
        self.book = ReceiverBook(self.allocator, hold_s=hold_s, on_freed=lambda _: None)
        entry = self.book.open("h", num_pages=3, max_tokens=3, deadline_s=math.inf)
        assert entry is not None
        self.entry: Entry = entry
        assert self.book.attach("h", "a") is entry
        self.book.tick(0.0)

    @property
    def is_free(self) -> bool:
        return self.allocator.num_free == NUM_PAGES


@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.parametrize(
    ("event", "is_held"),
    [
        (IncomingEvent.SETTLED_CLEAN, False),
        (IncomingEvent.SETTLED_DIRTY, True),
    ],
)
def test_pages_are_held_after_a_failed_transfer_also_when_the_sender_had_to_come_back(
    came_back: bool, event: IncomingEvent, is_held: bool
) -> None:
    made = Book()
    if came_back:
        assert made.book.sender_lost("a") == [made.entry]
    assert made.book.apply(made.entry, event)
    assert made.is_free is not is_held
    for at_s in (0.4, 0.8, 1.2, 1.6):
        made.book.tick(at_s)
    assert made.is_free


def test_the_hold_begins_after_the_tick_that_first_sees_it() -> None:
    made = Book()
    made.book.apply(made.entry, IncomingEvent.SETTLED_DIRTY)
    # What has passed since the last tick was mostly before.
    made.book.tick(0.4)
    made.book.tick(0.8)
    made.book.tick(1.2)
    assert not made.is_free
    made.book.tick(1.5)
    assert made.is_free


def test_time_in_which_this_process_was_stopped_does_not_count() -> None:
    made = Book()
    made.book.apply(made.entry, IncomingEvent.SETTLED_DIRTY)
    made.book.tick(0.1)
    made.book.tick(1000.0)
    assert not made.is_free
    made.book.tick(1000.0 + MAX_TICK_S)
    assert made.is_free


def test_without_a_hold_pages_are_free_at_once() -> None:
    made = Book(hold_s=0.0)
    made.book.sender_lost("a")
    assert not made.is_free
    made.book.sender_died("a")
    assert made.is_free


def test_only_the_sender_that_has_the_ticket_is_listened_to() -> None:
    made = Book()
    assert made.book.find("h", "b") is None
    assert made.book.find("h", "a") is made.entry
    made.book.sender_lost("b")
    made.book.sender_died("a")
    assert made.entry.state is IncomingState.RECEIVING


def test_what_waits_is_overdue_and_what_was_written_is_not() -> None:
    allocator = PageAllocator(NUM_PAGES)
    book = ReceiverBook(allocator, hold_s=HOLD_S, on_freed=lambda _: None)
    entries = [
        book.open(name, num_pages=1, max_tokens=1, deadline_s=5.0) for name in ("x", "y", "z")
    ]
    for name in ("y", "z"):
        book.attach(name, "a")
    assert entries[2] is not None
    book.apply(entries[2], IncomingEvent.COMMITTED)
    assert book.tick(4.9) == []
    assert book.tick(5.0) == entries[:2]
    assert book.num_by_state() == {
        IncomingState.OPEN: 1, IncomingState.RECEIVING: 1, IncomingState.VERIFYING: 1,
    }  # fmt: skip


def test_quarantined_pages_are_those_that_nobody_waits_for() -> None:
    made = Book()
    assert made.book.num_quarantined_pages == 0
    made.book.end(made.entry)
    assert made.book.num_quarantined_pages == 3
    assert made.book.lost_senders() == set()
    made.book.sender_lost("a")
    assert made.book.lost_senders() == {"a"}
