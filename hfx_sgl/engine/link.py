"""A network link that transfers share: who is done when. Moves no bytes."""

import math
from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import count


class _Transfer:
    """One transfer and where it stands."""

    __slots__ = ("finish_service", "is_cancelled", "is_open", "is_sending", "transfer_id")

    def __init__(self, transfer_id: str) -> None:
        self.transfer_id = transfer_id
        self.finish_service = 0.0
        """Value of the link's service counter at which the last byte so far is sent."""
        self.is_open = True
        self.is_sending = False
        self.is_cancelled = False


class SharedLink:
    """A link whose bandwidth the transfers that have bytes to send share equally.

    Processor sharing by a service counter: it says how many bytes a transfer would have got that
    was sending all the time, so it grows by `bytes_per_s / n` per second while n are sending.
    Bytes added at the counter value v are sent when it reaches v plus their number, whatever
    comes and goes in between. Each call costs O(log n).

    Instants must not decrease from call to call. Transfers are named by ids that are unique
    among those that `advance` has not yet reported; others raise KeyError.

    Args:
        bytes_per_s: bandwidth.
        latency_s: fixed part of each transfer, after its last byte.
    """

    def __init__(self, bytes_per_s: float, latency_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._latency_s = latency_s
        self._transfers: dict[str, _Transfer] = {}
        # One entry for each transfer that sends, with a value that `finish_service` had.
        self._sending: list[tuple[float, int, _Transfer]] = []
        self._num_sending = 0
        self._num_entries = count()
        # Closed and without bytes left, with the instants of completion, which never decrease.
        self._sent: deque[tuple[float, _Transfer]] = deque()
        # The counter and its instant at the last change of who is sending. It is left alone
        # otherwise: the same instants come out however often somebody asks.
        self._service = 0.0
        self._service_at_s = 0.0

    @property
    def num_transfers(self) -> int:
        """Transfers that have begun and are neither reported nor cancelled."""
        return len(self._transfers)

    def start(self, transfer_id: str, num_bytes: int, now_s: float) -> None:
        """Begin a transfer with its first bytes; it stays open for more until `close`."""
        if transfer_id in self._transfers:
            raise KeyError(f"transfer {transfer_id!r} is under way")
        self._transfers[transfer_id] = _Transfer(transfer_id)
        self.add_bytes(transfer_id, num_bytes, now_s)

    def add_bytes(self, transfer_id: str, num_bytes: int, now_s: float) -> None:
        """Send so many bytes more. Not after `close`."""
        transfer = self._transfers[transfer_id]
        if not transfer.is_open:
            raise KeyError(f"transfer {transfer_id!r} is closed")
        self._run(now_s)
        if not num_bytes:
            return
        if transfer.is_sending:
            transfer.finish_service += num_bytes
            return
        self._set_num_sending(self._num_sending + 1, now_s)
        transfer.is_sending = True
        transfer.finish_service = self._service + num_bytes
        heappush(self._sending, (transfer.finish_service, next(self._num_entries), transfer))

    def close(self, transfer_id: str, now_s: float) -> None:
        """Say that no more bytes come: it completes `latency_s` after the last one is sent.

        If they are sent already, `latency_s` after this call.
        """
        transfer = self._transfers[transfer_id]
        self._run(now_s)
        if not transfer.is_open:
            return
        transfer.is_open = False
        if not transfer.is_sending:
            self._sent.append((now_s + self._latency_s, transfer))

    def cancel(self, transfer_id: str, now_s: float) -> None:
        """Forget a transfer, even one that is complete but not reported."""
        transfer = self._transfers[transfer_id]
        self._run(now_s)
        del self._transfers[transfer_id]
        transfer.is_cancelled = True
        if transfer.is_sending:
            transfer.is_sending = False
            self._set_num_sending(self._num_sending - 1, now_s)

    def next_completion_s(self) -> float:
        """Return the instant of the next completion; `math.inf` when none is to be seen.

        Exact, unless an open transfer runs out of bytes before: then it is a lower bound, and
        `advance` to it makes progress.
        """
        sent = self._next_sent()
        completion_s = sent[0] if sent else math.inf
        if (drained := self._next_drained()) is not None:
            completion_s = min(completion_s, self._drain_at_s(drained) + self._latency_s)
        return completion_s

    def advance(self, now_s: float) -> list[tuple[float, str]]:
        """Let time pass; return the completions up to `now_s`, in order of time."""
        self._run(now_s)
        completions: list[tuple[float, str]] = []
        while (sent := self._next_sent()) is not None and sent[0] <= now_s:
            self._sent.popleft()
            del self._transfers[sent[1].transfer_id]
            completions.append((sent[0], sent[1].transfer_id))
        return completions

    def _run(self, now_s: float) -> None:
        """Let time pass: whose last byte is sent by `now_s` stops sending."""
        while (transfer := self._next_drained()) is not None:
            drain_at_s = self._drain_at_s(transfer)
            if drain_at_s > now_s:
                return
            heappop(self._sending)
            transfer.is_sending = False
            self._set_num_sending(self._num_sending - 1, drain_at_s)
            # What the line above works out, but for its rounding: equal ones end together.
            self._service = transfer.finish_service
            if not transfer.is_open:
                self._sent.append((drain_at_s + self._latency_s, transfer))

    def _next_sent(self) -> tuple[float, _Transfer] | None:
        while self._sent and self._sent[0][1].is_cancelled:
            self._sent.popleft()
        return self._sent[0] if self._sent else None

    def _next_drained(self) -> _Transfer | None:
        """Return the transfer that will be out of bytes first, if any is sending."""
        while self._sending:
            finish_service, _, transfer = self._sending[0]
            if not transfer.is_sending:
                heappop(self._sending)
            elif transfer.finish_service != finish_service:
                entry = (transfer.finish_service, next(self._num_entries), transfer)
                heapreplace(self._sending, entry)
            else:
                return transfer
        return None

    def _drain_at_s(self, transfer: _Transfer) -> float:
        left_bytes = max(0.0, transfer.finish_service - self._service)
        return self._service_at_s + left_bytes * self._num_sending / self._bytes_per_s

    def _set_num_sending(self, num_sending: int, at_s: float) -> None:
        """Change how many share the link, at an instant up to which nobody is out of bytes."""
        if self._num_sending:
            passed_s = at_s - self._service_at_s
            self._service += passed_s * self._bytes_per_s / self._num_sending
        self._service_at_s = at_s
        self._num_sending = num_sending
