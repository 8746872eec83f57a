"""The hand-offs that a receiver has open, and their pages. No I/O, no clock, one thread.

Owns the rule when pages go back. Whoever drives it tells what has happened.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from hfx_transfer.kv.pages import PageAllocator, Reservation
from hfx_transfer.kv.receiver_states import (
    IN_FLIGHT,
    QUARANTINED,
    TRANSITIONS,
    IncomingEvent,
    IncomingState,
    next_state,
)

MAX_TICK_S = 0.5
"""A tick counts for at most so much of a hold: a process that was stopped has read nothing."""


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One hand-off. Changed by its book alone."""

    handoff_id: str
    reservation: Reservation
    max_tokens: int
    deadline_s: float
    state: IncomingState = IncomingState.OPEN
    sender_id: str | None = None
    """Who has the ticket; None while nobody has."""
    hold_left_s: float | None = None
    """While draining; None until a first tick has seen that."""

    @property
    def is_in_flight(self) -> bool:
        """Whether bytes may still land in its pages."""
        return self.state in IN_FLIGHT

    @property
    def gives_up_at_s(self) -> float:
        """When it is given up; infinite once it has got beyond that."""
        is_waiting = self.state in (IncomingState.OPEN, IncomingState.RECEIVING)
        return self.deadline_s if is_waiting else math.inf


class ReceiverBook:
    """Opens hand-offs, moves them through their states, and frees their pages at the end.

    Args:
        allocator: whose pages they get.
        hold_s: how long pages are kept after a failure, once the sender begins nothing more.
        on_freed: called with each hand-off that is over, before its pages go back.
    """

    def __init__(
        self, allocator: PageAllocator, *, hold_s: float, on_freed: Callable[[Entry], None]
    ) -> None:
        self._allocator = allocator
        self._hold_s = hold_s
        self._on_freed = on_freed
        self._entries: dict[str, Entry] = {}
        self._last_tick_s: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Those that hold pages."""
        return tuple(self._entries.values())

    @property
    def num_quarantined_pages(self) -> int:
        """Pages that nobody waits for and that may still be written."""
        return sum(
            len(entry.reservation.pages)
            for entry in self._entries.values()
            if entry.state in QUARANTINED
        )

    def num_by_state(self) -> Counter[IncomingState]:
        """Return how many hand-offs are in each state."""
        return Counter(entry.state for entry in self._entries.values())

    def open(
        self, handoff_id: str, *, num_pages: int, max_tokens: int, deadline_s: float
    ) -> Entry | None:
        """Reserve pages for a new hand-off; None when there are not enough."""
        reservation = self._allocator.reserve(num_pages)
        if reservation is None:
            return None
        entry = Entry(
            handoff_id=handoff_id,
            reservation=reservation,
            max_tokens=max_tokens,
            deadline_s=deadline_s,
        )
        self._entries[handoff_id] = entry
        return entry

    def attach(self, handoff_id: str, sender_id: str) -> Entry | None:
        """Give a sender the ticket; None when the hand-off is over or somebody else's."""
        entry = self._entries.get(handoff_id)
        if entry is None or entry.state is not IncomingState.OPEN:
            return None
        entry.sender_id = sender_id
        self._move(entry, IncomingEvent.ATTACHED)
        return entry

    def find(self, handoff_id: str, sender_id: str) -> Entry | None:
        """Return a hand-off of this sender; None when it is over or somebody else's."""
        entry = self._entries.get(handoff_id)
        return entry if entry is not None and entry.sender_id == sender_id else None

    def apply(self, entry: Entry, event: IncomingEvent) -> bool:
        """Let something happen; return whether that is possible in the state it has."""
        if (entry.state, event) not in TRANSITIONS:
            return False
        self._move(entry, event)
        return True

    def end(self, entry: Entry) -> None:
        """Give a hand-off up, or its pages back; nothing happens when it is over."""
        if entry.state is not IncomingState.FREED:
            self._move(entry, IncomingEvent.ENDED)

    def sender_lost(self, sender_id: str) -> list[Entry]:
        """A sender's connection broke; return what is lost by that."""
        lost = []
        for entry in self._of(sender_id):
            was = entry.state
            self._move(entry, IncomingEvent.SENDER_LOST)
            if entry.state is not was:
                lost.append(entry)
        return lost

    def sender_died(self, sender_id: str) -> None:
        """A sender whose connection broke turns out to be gone."""
        for entry in self._of(sender_id):
            if entry.state is IncomingState.LOST:
                self._move(entry, IncomingEvent.SENDER_DIED)

    def lost_senders(self) -> set[str]:
        """Return the senders whose death would free pages."""
        return {
            entry.sender_id
            for entry in self._entries.values()
            if entry.state is IncomingState.LOST and entry.sender_id is not None
        }

    def tick(self, now_s: float) -> list[Entry]:
        """Let time pass, often; return the hand-offs whose deadline is over."""
        last_s = now_s if self._last_tick_s is None else self._last_tick_s
        passed_s = min(now_s - last_s, MAX_TICK_S)
        self._last_tick_s = now_s
        for entry in self.entries:
            if entry.state is IncomingState.DRAINING:
                self._hold(entry, passed_s)
        return [entry for entry in self.entries if entry.gives_up_at_s <= now_s]

    def _hold(self, entry: Entry, passed_s: float) -> None:
        if entry.hold_left_s is None:
            # The time that has passed began before it drained.
            entry.hold_left_s = self._hold_s
        else:
            entry.hold_left_s -= passed_s
        if entry.hold_left_s <= 0:
            self._move(entry, IncomingEvent.HOLD_OVER)

    def _of(self, sender_id: str) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.sender_id == sender_id]

    def _move(self, entry: Entry, event: IncomingEvent) -> None:
        entry.state = next_state(entry.state, event)
        if entry.state is IncomingState.DRAINING and self._hold_s == 0:
            entry.state = next_state(entry.state, IncomingEvent.HOLD_OVER)
        if entry.state is IncomingState.FREED:
            del self._entries[entry.handoff_id]
            self._on_freed(entry)
            entry.reservation.release()
