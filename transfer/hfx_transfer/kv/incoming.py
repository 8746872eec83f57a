"""One hand-off as whoever opened it sees it."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.book import Entry
from hfx_transfer.kv.offer import KvOffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """KV that is in place and verified."""

    num_tokens: int
    metadata: bytes
    """What the sender's engine said about it, such as the first token."""


class IncomingKv:
    """Pages that wait for a prompt's KV, then hold it. Usable from any thread.

    `arrival` ends once: with the arrival, or with a `TransferError`. The pages belong to the
    receiver in the second case. In the first they are the opener's until `release`.

    Args:
        give_up: ends the hand-off, if it has not ended.
    """

    def __init__(
        self, offer: KvOffer, entry: Entry, give_up: Callable[[Entry, TransferError], None]
    ) -> None:
        self.offer = offer
        self.pages = entry.reservation.pages
        self.arrival: Future[Arrival] = Future()
        # Nobody who waits for it, and tires of it, may cancel it for others.
        self.arrival.set_running_or_notify_cancel()
        self._entry = entry
        self._give_up = give_up

    def result(self, timeout_s: float | None = None) -> Arrival:
        """Wait for the KV.

        Raises:
            TransferError: it does not come.
            TimeoutError: nothing has ended within `timeout_s`; the hand-off goes on.
        """
        return self.arrival.result(timeout_s)

    def abort(self, reason: str) -> None:
        """Give the hand-off up; nothing happens to one that has failed.

        The sender is told. The pages are free when it has settled, and at once when none had the
        ticket, or the KV was here already.
        """
        self._give_up(self._entry, TransferError(reason, fault=TransferFault.ABORTED))

    def release(self) -> None:
        """Give the pages back: nobody needs the KV any more. Twice is once."""
        self.abort("the receiver has no use for the KV")
