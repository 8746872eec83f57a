"""The receiving side without its connections: who may write where, and what has arrived.

Thread-safe. Futures are resolved outside of the lock, since whoever waits may call back.
"""

import math
import secrets
import threading
from collections import Counter
from collections.abc import Callable

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.book import Entry, ReceiverBook
from hfx_transfer.kv.coverage import coverage_problem
from hfx_transfer.kv.incoming import Arrival, IncomingKv
from hfx_transfer.kv.messages import Commit, Stop, TicketIssued, Verdict
from hfx_transfer.kv.offer import KvOffer
from hfx_transfer.kv.pages import PageAllocator, runs_of
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver_states import IncomingEvent, IncomingState
from hfx_transfer.kv.runs import slot_runs
from hfx_transfer.observer import Direction, TransferObserver


class Reception:
    """Opens hand-offs and moves them on, as callers and senders say.

    Args:
        pool: where the KV goes.
        allocator: of the pool's pages.
        hold_s: see ReceiverBook.
        tell: takes a message to a sender by its id, if it is connected; must not block.
        observer: counts what has arrived.
    """

    def __init__(
        self,
        pool: KvPool,
        allocator: PageAllocator,
        *,
        hold_s: float,
        tell: Callable[[str, Stop], None],
        observer: TransferObserver,
    ) -> None:
        self._observer = observer
        self._pool = pool
        self._tell = tell
        self._lock = threading.RLock()
        self._book = ReceiverBook(allocator, hold_s=hold_s, on_freed=self._freed)
        self._incoming: dict[str, IncomingKv] = {}
        """Those whose arrival is open."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._book)

    @property
    def num_quarantined_pages(self) -> int:
        """Pages of failed hand-offs that cannot be used again yet."""
        with self._lock:
            return self._book.num_quarantined_pages

    def num_by_state(self) -> Counter[IncomingState]:
        """Return how many hand-offs are in each state."""
        with self._lock:
            return self._book.num_by_state()

    def lost_senders(self) -> set[str]:
        """Return the senders whose death would free pages."""
        with self._lock:
            return self._book.lost_senders()

    def open(
        self, address: tuple[str, int], num_tokens: int, *, deadline_s: float
    ) -> IncomingKv | None:
        """Reserve pages for a prompt's KV; None when there are not enough free ones."""
        layout = self._pool.layout
        offer = KvOffer(
            host=address[0],
            port=address[1],
            handoff_id=secrets.token_hex(8),
            backend=self._pool.engine.backend,
            layout=layout,
            max_tokens=num_tokens,
        )
        with self._lock:
            entry = self._book.open(
                offer.handoff_id,
                num_pages=layout.num_pages_for(num_tokens),
                max_tokens=num_tokens,
                deadline_s=deadline_s,
            )
            if entry is None:
                return None
            incoming = IncomingKv(offer, entry, self.give_up)
            self._incoming[offer.handoff_id] = incoming
        return incoming

    def give_up(self, entry: Entry, error: TransferError) -> None:
        """End a hand-off from this side, whatever state it is in."""
        with self._lock:
            was = entry.state
            self._book.end(entry)
            incoming = self._incoming.pop(entry.handoff_id, None)
        if was is IncomingState.RECEIVING and entry.sender_id is not None:
            stop = Stop(handoff_id=entry.handoff_id, fault=error.fault, reason=str(error))
            self._tell(entry.sender_id, stop)
        _fail(incoming, error)

    def attach(self, sender_id: str, handoff_id: str, now_s: float) -> TicketIssued | Verdict:
        """Give a sender the ticket; from here on it may write."""
        with self._lock:
            entry = self._book.attach(handoff_id, sender_id)
            if entry is None:
                return Verdict(
                    handoff_id=handoff_id,
                    fault=TransferFault.ABORTED,
                    reason="the hand-off is over, or another sender's",
                )
            self._pool.pin()
        time_left_s = entry.deadline_s - now_s
        return TicketIssued(
            handoff_id=handoff_id,
            layout=self._pool.layout,
            regions=self._pool.regions,
            runs=tuple(runs_of(entry.reservation.pages)),
            max_tokens=entry.max_tokens,
            time_left_s=None if time_left_s == math.inf else time_left_s,
        )

    def gave_up(self, sender_id: str, handoff_id: str, error: TransferError) -> None:
        """A sender will not finish; it has yet to settle."""
        with self._lock:
            entry = self._book.find(handoff_id, sender_id)
            if entry is None or entry.state is not IncomingState.RECEIVING:
                return
            self._book.end(entry)
            incoming = self._incoming.pop(handoff_id, None)
        _fail(incoming, error)

    def settled(self, sender_id: str, handoff_id: str, *, is_clean: bool) -> None:
        """Nothing of a sender's hand-off is under way any more."""
        event = IncomingEvent.SETTLED_CLEAN if is_clean else IncomingEvent.SETTLED_DIRTY
        with self._lock:
            entry = self._book.find(handoff_id, sender_id)
            if entry is None or not self._book.apply(entry, event):
                return
            incoming = self._incoming.pop(handoff_id, None)
        _fail(incoming, TransferError("the sender gave up", fault=TransferFault.ABORTED))

    def committed(self, sender_id: str, commit: Commit) -> Entry | None:
        """A sender has written all; return the hand-off if somebody waits for it."""
        with self._lock:
            entry = self._book.find(commit.handoff_id, sender_id)
            if entry is None or not self._book.apply(entry, IncomingEvent.COMMITTED):
                return None
            return entry if entry.state is IncomingState.VERIFYING else None

    def verify(self, entry: Entry, commit: Commit) -> TransferError | None:
        """Compare what has arrived with what was promised; return what is wrong. Takes a while."""
        layout = self._pool.layout
        if not 1 <= commit.num_tokens <= entry.max_tokens:
            message = f"{commit.num_tokens} tokens came where 1..{entry.max_tokens} were awaited"
            return TransferError(message, fault=TransferFault.PROTOCOL)
        problem = coverage_problem(
            commit.pieces, num_layers=layout.num_layers, num_tokens=commit.num_tokens
        )
        if problem is not None:
            return TransferError(f"not all KV came: {problem}", fault=TransferFault.PROTOCOL)
        for piece in commit.pieces:
            pages = entry.reservation.pages[piece.first_token // layout.page_tokens :]
            runs = slot_runs(layout.page_tokens, pages, piece.first_token, piece.num_tokens)
            if self._pool.digest(piece.layer, runs) != piece.digest:
                backend = self._pool.engine.backend
                self._observer.chunk_failed(backend, TransferFault.DIGEST_MISMATCH)
                return TransferError(
                    f"layer {piece.layer}, tokens from {piece.first_token} on: the bytes that "
                    "arrived are not those that were sent",
                    fault=TransferFault.DIGEST_MISMATCH,
                )
        return None

    def judged(self, entry: Entry, commit: Commit, error: TransferError | None) -> Verdict:
        """Say how the verification went, to whoever waits; return what to tell the sender."""
        event = IncomingEvent.VERIFIED if error is None else IncomingEvent.REFUTED
        with self._lock:
            if not self._book.apply(entry, event):
                error = TransferError("it was given up", fault=TransferFault.ABORTED)
            incoming = self._incoming.pop(entry.handoff_id, None)
        if error is None and incoming is not None:
            num_bytes = commit.num_tokens * self._pool.layout.handoff_token_bytes
            self._observer.moved(self._pool.engine.backend, Direction.IN, num_bytes)
            arrival = Arrival(num_tokens=commit.num_tokens, metadata=commit.metadata)
            incoming.arrival.set_result(arrival)
        elif error is not None:
            _fail(incoming, error)
        return verdict_of(entry.handoff_id, error)

    def sender_lost(self, sender_id: str) -> None:
        """A sender's connection broke."""
        with self._lock:
            lost = self._book.sender_lost(sender_id)
            waiting = [self._incoming.pop(entry.handoff_id, None) for entry in lost]
        error = TransferError("the connection to the sender broke", fault=TransferFault.PEER_FAILED)
        for incoming in waiting:
            _fail(incoming, error)

    def sender_died(self, sender_id: str) -> None:
        """A sender whose connection broke is gone for certain."""
        with self._lock:
            self._book.sender_died(sender_id)

    def tick(self, now_s: float) -> None:
        """Let time pass, often: holds end, and deadlines."""
        with self._lock:
            overdue = self._book.tick(now_s)
        for entry in overdue:
            error = TransferError("the KV did not come in time", fault=TransferFault.STALLED)
            self.give_up(entry, error)

    def give_up_all(self, error: TransferError) -> None:
        """End every hand-off from this side."""
        with self._lock:
            entries = self._book.entries
        for entry in entries:
            self.give_up(entry, error)

    def _freed(self, entry: Entry) -> None:
        if entry.sender_id is not None:
            self._pool.unpin()


def verdict_of(handoff_id: str, error: TransferError | None) -> Verdict:
    """Return what a sender is told about the end of a hand-off."""
    if error is None:
        return Verdict(handoff_id=handoff_id, fault=None)
    return Verdict(handoff_id=handoff_id, fault=error.fault, reason=str(error))


def _fail(incoming: IncomingKv | None, error: TransferError) -> None:
    if incoming is not None:
        incoming.arrival.set_exception(error)
