"""No page is both free and writable by a sender, and none is lost, whatever happens.

The machine plays senders and network. It knows what the book cannot: who can still write.
"""

import math
from dataclasses import dataclass

from hfx_transfer.kv.book import MAX_TICK_S, Entry, ReceiverBook
from hfx_transfer.kv.pages import PageAllocator, Reservation
from hfx_transfer.kv.receiver_states import IncomingEvent, IncomingState
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

NUM_PAGES = 12
SENDERS = ("a", "b")
HOLD_S = 2.0


@dataclass(slots=True, eq=False)
class Writer:
    """What a sender does with one ticket."""

    entry: Entry
    sender: str
    is_begun: bool = True
    """Whether it may still begin transfers or has some under way."""
    drains_for_s: float = 0.0
    """Receiver's running time until no byte of it can arrive, once it begins no more."""

    @property
    def can_land(self) -> bool:
        return self.is_begun or self.drains_for_s > 0


class BookMachine(RuleBasedStateMachine):
    """Senders are alive until they are killed; their connections come and go."""

    @initialize(hold_s=st.sampled_from([0.0, HOLD_S]))
    def make(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self.allocator = PageAllocator(NUM_PAGES)
        self.freed: list[str] = []
        self.book = ReceiverBook(
            self.allocator,
            hold_s=hold_s,
            on_freed=lambda entry: self.freed.append(entry.handoff_id),
        )
        self.now_s = 0.0
        self.num_opened = 0
        self.offered: list[Entry] = []
        self.writers: list[Writer] = []
        self.connected = set(SENDERS)
        self.alive = set(SENDERS)
        self.taken: list[Reservation] = []
        self.book.tick(self.now_s)

    def _note(self, entry: Entry) -> None:
        self.freed.append(entry.handoff_id)

    @rule(num_pages=st.integers(1, 5), timeout_s=st.sampled_from([1.0, 5.0, math.inf]))
    def open(self, num_pages: int, timeout_s: float) -> None:
        num_free = self.allocator.num_free
        entry = self.book.open(
            f"h{self.num_opened}",
            num_pages=num_pages,
            max_tokens=num_pages,
            deadline_s=self.now_s + timeout_s,
        )
        assert (entry is None) == (num_pages > num_free)
        if entry is not None:
            self.num_opened += 1
            self.offered.append(entry)

    @rule(at=st.integers(0, 20), sender=st.sampled_from(SENDERS))
    def attach(self, at: int, sender: str) -> None:
        if not self.offered or sender not in self.connected:
            return
        entry = self.offered[at % len(self.offered)]
        was = entry.state
        ticket = self.book.attach(entry.handoff_id, sender)
        assert (ticket is not None) == (was is IncomingState.OPEN)
        if ticket is not None:
            self.writers.append(Writer(entry, sender))

    def _pick(self, at: int) -> Writer | None:
        able = [w for w in self.writers if w.is_begun and w.sender in self.connected]
        return able[at % len(able)] if able else None

    @rule(at=st.integers(0, 20))
    def commit(self, at: int) -> None:
        writer = self._pick(at)
        if writer is not None:
            writer.is_begun = False
            self._told(writer, IncomingEvent.COMMITTED)

    @rule(at=st.integers(0, 20), is_clean=st.booleans())
    def settle(self, at: int, is_clean: bool) -> None:
        writer = self._pick(at)
        if writer is not None:
            writer.is_begun = False
            writer.drains_for_s = 0.0 if is_clean else self.hold_s
            event = IncomingEvent.SETTLED_CLEAN if is_clean else IncomingEvent.SETTLED_DIRTY
            self._told(writer, event)

    def _told(self, writer: Writer, event: IncomingEvent) -> None:
        entry = self.book.find(writer.entry.handoff_id, writer.sender)
        if entry is not None:
            self.book.apply(entry, event)

    @rule(at=st.integers(0, 20))
    def end(self, at: int) -> None:
        if self.offered:
            self.book.end(self.offered[at % len(self.offered)])

    @rule(at=st.integers(0, 20), is_right=st.booleans())
    def judge(self, at: int, is_right: bool) -> None:
        verifying = [e for e in self.book.entries if e.state is IncomingState.VERIFYING]
        if verifying:
            event = IncomingEvent.VERIFIED if is_right else IncomingEvent.REFUTED
            assert self.book.apply(verifying[at % len(verifying)], event)

    @rule(sender=st.sampled_from(SENDERS))
    def disconnect(self, sender: str) -> None:
        self.connected.discard(sender)
        self.book.sender_lost(sender)

    @rule(sender=st.sampled_from(SENDERS))
    def reconnect(self, sender: str) -> None:
        if sender in self.alive:
            self.connected.add(sender)

    @rule(sender=st.sampled_from(SENDERS))
    def kill(self, sender: str) -> None:
        """What was in buffers still arrives while the hold lasts."""
        self.alive.discard(sender)
        for writer in self.writers:
            if writer.sender == sender and writer.is_begun:
                writer.is_begun = False
                writer.drains_for_s = self.hold_s
        self.disconnect(sender)

    @rule(sender=st.sampled_from(SENDERS))
    def look_for(self, sender: str) -> None:
        if sender in self.book.lost_senders() and sender not in self.alive:
            self.book.sender_died(sender)

    @rule(passed_s=st.sampled_from([0.1, 0.4, 10.0]))
    def tick(self, passed_s: float) -> None:
        """Of ten seconds, this process was stopped for all but the last bit."""
        self.now_s += passed_s
        for entry in self.book.tick(self.now_s):
            assert entry.deadline_s <= self.now_s
            self.book.end(entry)
        for writer in self.writers:
            writer.drains_for_s = max(0.0, writer.drains_for_s - min(passed_s, MAX_TICK_S))

    @rule(num_pages=st.integers(1, NUM_PAGES))
    def engine_takes_pages(self, num_pages: int) -> None:
        reservation = self.allocator.reserve(num_pages)
        if reservation is not None:
            self.taken.append(reservation)

    @rule()
    def engine_gives_pages_back(self) -> None:
        if self.taken:
            self.taken.pop().release()

    @invariant()
    def nobody_can_write_to_a_page_that_is_free_or_somebody_else_s(self) -> None:
        for writer in self.writers:
            if writer.can_land:
                assert not writer.entry.reservation.is_released, writer

    @invariant()
    def no_page_is_lost(self) -> None:
        held = [entry.reservation for entry in self.book.entries] + self.taken
        pages = [page for reservation in held for page in reservation.pages]
        assert len(set(pages)) == len(pages)
        assert self.allocator.num_free + len(pages) == NUM_PAGES

    @invariant()
    def what_is_over_has_given_its_pages_back_once(self) -> None:
        assert len(set(self.freed)) == len(self.freed)
        over = {e.handoff_id for e in self.offered if e.state is IncomingState.FREED}
        assert over == set(self.freed)
        assert all(e.reservation.is_released for e in self.offered if e.handoff_id in over)

    def teardown(self) -> None:
        """Once all are dead and time has passed, every page is free again."""
        if not hasattr(self, "book"):
            return
        for reservation in self.taken:
            reservation.release()
        for sender in SENDERS:
            self.kill(sender)
            self.look_for(sender)
        for entry in self.offered:
            self.book.end(entry)
        for _ in range(10):
            self.tick(0.4)
        assert self.allocator.num_free == NUM_PAGES


TestBook = BookMachine.TestCase
TestBook.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
