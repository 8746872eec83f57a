"""Drives many transfers with one peer, a few at a time, until all are done or one failed.

Whatever happens, it returns with no transfer under way, so that nothing lands in memory that the
caller has taken back. Only when transfers outlast `drain_timeout_s` it gives up on them; their
slabs then stay pinned, and the error says so.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Operation, Peer, Ticket, TicketState
from hfx_transfer.memory.slab import Slab

DEFAULT_WINDOW = 4
"""Mooncake's connections to one peer. More would queue behind them, and a hung peer would be
noticed in a second progress timeout only."""

_FIRST_PAUSE_S = 0.0002
_LONGEST_PAUSE_S = 0.002
_PAUSE_GROWTH = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes to move between a slab here and the peer's."""

    local: Slab
    local_offset: int
    remote_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimits:
    """How many transfers, and for how long."""

    window: int = DEFAULT_WINDOW
    """Transfers under way at a time, at least 1."""

    drain_timeout_s: float = 15.0
    """How long to wait, after a failure, for what is under way. Three times the default progress
    timeout of an engine: each transfer ends within one, and a busy machine is late to say so."""

    def __post_init__(self) -> None:
        if self.window < 1 or self.drain_timeout_s <= 0:
            raise ValueError(f"window must be at least 1 and drain_timeout_s above 0 ({self})")


def pull(
    peer: Peer,
    spans: Iterable[Span],
    *,
    clock: Clock,
    on_done: Callable[[Span, str | None], None],
    limits: WindowLimits | None = None,
    abort: threading.Event | None = None,
    pause: Callable[[float], object] | None = None,
) -> None:
    """Read every span from the peer; return when all bytes are in place.

    Args:
        peer: whom to read from.
        spans: taken one by one, as the window has room; must not block.
        clock: for the drain timeout.
        on_done: called with each span and its digest, where the backend computed one, in the
            order in which they finish. Up to `window` transfers go on meanwhile. What it raises
            ends the pull like a failed transfer.
        limits: None for the defaults.
        abort: when set, no more is begun, and the pull ends as aborted.
        pause: waits for that many seconds between two polls; None for the peer's own way.

    Raises:
        TransferError: a transfer failed, or `abort` was set. Nothing is under way, unless the
            error is `quarantined`.
        ValueError: a span is not within its slabs.
    """
    _drive(Operation.READ, peer, spans, clock, on_done, limits, abort, pause)


def push(
    peer: Peer,
    spans: Iterable[Span],
    *,
    clock: Clock,
    on_done: Callable[[Span, str | None], None],
    limits: WindowLimits | None = None,
    abort: threading.Event | None = None,
    pause: Callable[[float], object] | None = None,
) -> None:
    """Write every span to the peer; return when all bytes are in place there. See `pull`."""
    _drive(Operation.WRITE, peer, spans, clock, on_done, limits, abort, pause)


def _drive(
    operation: Operation,
    peer: Peer,
    spans: Iterable[Span],
    clock: Clock,
    on_done: Callable[[Span, str | None], None],
    limits: WindowLimits | None,
    abort: threading.Event | None,
    pause: Callable[[float], object] | None,
) -> None:
    limits = limits or WindowLimits()
    under_way = _UnderWay(pause or peer.wait)
    rest = iter(spans)
    try:
        while under_way.fill(peer, operation, rest, limits.window):
            if abort is not None and abort.is_set():
                raise TransferError("the transfer was aborted", fault=TransferFault.ABORTED)
            for span, ticket in under_way.take_final():
                if ticket.fault is not None:
                    raise _failed(operation, span, ticket.fault)
                on_done(span, ticket.digest)
    except BaseException as error:
        num_left = under_way.drain(clock, limits.drain_timeout_s)
        if num_left and isinstance(error, Exception):
            raise _quarantined(error, num_left, limits.drain_timeout_s) from error
        raise


class _UnderWay:
    """Transfers that were begun and are not known to be over."""

    def __init__(self, pause: Callable[[float], object]) -> None:
        self._pause = pause
        self._pause_s = _FIRST_PAUSE_S
        self._tickets: list[tuple[Ticket, Span]] = []

    def fill(self, peer: Peer, operation: Operation, rest: Iterator[Span], window: int) -> bool:
        """Begin transfers while there is room; return whether any is under way."""
        while len(self._tickets) < window and (span := next(rest, None)) is not None:
            ticket = peer.submit(
                operation,
                span.local,
                local_offset=span.local_offset,
                remote_offset=span.remote_offset,
                size_bytes=span.size_bytes,
            )
            self._tickets.append((ticket, span))
        return bool(self._tickets)

    def take_final(self) -> list[tuple[Span, Ticket]]:
        """Remove and return what is over; pause when nothing is."""
        final: list[tuple[Span, Ticket]] = []
        running = []
        for ticket, span in self._tickets:
            if ticket.poll() is TicketState.RUNNING:
                running.append((ticket, span))
            else:
                final.append((span, ticket))
        self._tickets = running
        if final:
            self._pause_s = _FIRST_PAUSE_S
        else:
            self._pause(self._pause_s)
            self._pause_s = min(self._pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
        return final

    def drain(self, clock: Clock, timeout_s: float) -> int:
        """Wait until nothing is under way, or for `timeout_s`; return how many still are."""
        end_s = clock.now_s() + timeout_s
        while self._tickets and clock.now_s() < end_s:
            self.take_final()
        return len(self._tickets)


def _failed(operation: Operation, span: Span, fault: TransferFault) -> TransferError:
    return TransferError(
        f"{operation} of {span.size_bytes} bytes at {span.remote_offset} of the peer's slab: "
        f"{fault.replace('_', ' ')}",
        fault=fault,
    )


def _quarantined(error: Exception, num_left: int, waited_s: float) -> TransferError:
    fault = error.fault if isinstance(error, TransferError) else TransferFault.ABORTED
    return TransferError(
        f"{error}; {num_left} transfers have not ended after {waited_s:g} s and may still write: "
        f"their slabs stay pinned",
        fault=fault,
        quarantined=True,
    )
