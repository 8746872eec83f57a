"""Gathers what is written during one turn of the event loop and sends it at the turn's end.

A write can wake a peer that sleeps on another core, which costs more than the write itself. Sent
right after each other, writes find their peers awake. docs/decisions/0005 has the figures.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Outbox(Protocol):
    """Where connections put their writes. For one transport they keep their order."""

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Send `data`, at once or at the end of this turn of the loop."""
        ...

    def flush(self) -> None:
        """Hand everything to the transports; needed before one is closed or written to directly."""
        ...


class TurnOutbox:
    """Keeps the writes of a turn until it ends; after a quiet turn the first one goes at once.

    A lone request is thus not delayed at all, and a busy loop keeps everything.

    Args:
        call_soon: schedules a callback for the end of the turn, as `loop.call_soon` does.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._kept: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._is_in_turn = False
        self._is_busy = False

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """See Outbox."""
        if not self._is_in_turn:
            self._is_in_turn = True
            self._call_soon(self._end_turn)
            if not self._is_busy:
                transport.write(data)
                return
        self._kept.append((transport, data))

    def _end_turn(self) -> None:
        self._is_in_turn = False
        self._is_busy = len(self._kept) > 1
        self.flush()

    def flush(self) -> None:
        """See Outbox."""
        kept, self._kept = self._kept, []
        for transport, data in kept:
            if not transport.is_closing():
                transport.write(data)


class ImmediateOutbox:
    """Keeps nothing, for tests."""

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """See Outbox."""
        transport.write(data)

    def flush(self) -> None:
        """See Outbox."""
