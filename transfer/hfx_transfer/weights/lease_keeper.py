"""Keeps a lease at one source alive and watches which chunks the source has."""

import contextlib
import threading
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.weights.control_client import ControlClient
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.wire import LeaseGrant

_LONGEST_PERIOD_S = 1.0
"""A source that changes its weights is noticed within this."""
_RETRY_S = 0.2

_MAX_FAILURES = 3
"""In a row. A process that ended refuses three times within a second; one that hangs lets three
time limits pass, which is about as long as a lease runs."""

_FINAL = frozenset(
    {TransferFault.GENERATION_CHANGED, TransferFault.UNAUTHORIZED, TransferFault.PROTOCOL}
)
"""Faults that asking again does not mend."""


class LeaseKeeper:
    """Holds one lease, in a thread of its own, from `open` to `close`.

    The lease counts from the moment at which it was asked for, which is before the source
    counts: whoever lost touch stops relying on the bytes before the source stops keeping them.

    Args:
        client: the source.
        manifest: what it is to keep in place.
        availability_wait_s: how long the source may hold its answer on new chunks back.
        clock: for renewals.
        on_news: called when more chunks are there, or the lease is lost; must be quick.
    """

    def __init__(
        self,
        client: ControlClient,
        manifest: Manifest,
        *,
        availability_wait_s: float,
        clock: Clock,
        on_news: Callable[[], object],
    ) -> None:
        self._client = client
        self._manifest = manifest
        self._availability_wait_s = availability_wait_s
        self._clock = clock
        self._on_news = on_news
        self._stop = threading.Event()
        self._asking = threading.Lock()
        """Held while the lease is prolonged or handed back: a late renewal must not take one."""
        self._thread = threading.Thread(target=self._keep, name="hfx-lease", daemon=True)
        self._lease: LeaseGrant | None = None
        self._sent_at_s = 0.0
        self._is_answering = False
        self.available: set[int] | None = None
        """The chunks that the source has; None for all."""
        self.error: TransferError | None = None
        """Why the source must not be relied on any more; None while it may."""

    def open(self) -> None:
        """Take the lease and look at the chunks.

        Raises:
            TransferError: the source refuses, or holds other weights by now.
        """
        self._take()
        self.available = self._client.chunks(self._manifest, num_known=-1, wait_s=0.0)
        self._thread.start()

    def check(self) -> None:
        """Ask the source at once whether it still holds these weights.

        Raises:
            TransferError: it does not (generation_changed), or does not answer.
        """
        with self._asking:
            if self._stop.is_set():
                return
            try:
                self._renew()
            except TransferError as exc:
                if exc.fault is not TransferFault.LEASE_EXPIRED:
                    raise
                # Too late for a renewal, but a new lease is given on the same weights only.
                self._take()

    def close(self) -> None:
        """Stop, and hand the lease back where the source still answers.

        Does not wait for an answer on new chunks, which may take its time; see `join`.
        """
        self._stop.set()
        with self._asking:
            if self._lease is not None and self._is_answering:
                # What is not handed back runs out on its own.
                with contextlib.suppress(TransferError):
                    self._client.release(self._lease.lease_id)

    def join(self) -> None:
        """Wait for the thread, after `close`; at once when the client was closed."""
        if self._thread.is_alive():
            self._thread.join()

    def _take(self) -> None:
        sent_at_s = self._clock.now_s()
        self._lease = self._client.lease(self._manifest)
        self._is_answering = True
        self._sent_at_s = sent_at_s

    def _renew(self) -> None:
        assert self._lease is not None
        sent_at_s = self._clock.now_s()
        self._is_answering = False
        self._client.renew(self._lease.lease_id)
        self._is_answering = True
        self._sent_at_s = sent_at_s

    def _keep(self) -> None:
        assert self._lease is not None
        period_s = min(self._lease.duration_s / 3, _LONGEST_PERIOD_S)
        num_failures = 0
        while not self._stop.is_set():
            try:
                if self._clock.now_s() >= self._sent_at_s + period_s:
                    self.check()
                self._watch(min(self._availability_wait_s, period_s))
                num_failures = 0
            except TransferError as exc:
                num_failures += 1
                is_over = self._clock.now_s() >= self._sent_at_s + self._lease.duration_s
                if exc.fault in _FINAL or is_over or num_failures == _MAX_FAILURES:
                    self.error = exc
                    self._on_news()
                    return
                self._stop.wait(_RETRY_S)

    def _watch(self, wait_s: float) -> None:
        """Wait for more chunks, or only wait when all are there."""
        if self.available is None:
            self._stop.wait(wait_s)
            return
        num_known = len(self.available)
        available = self._client.chunks(self._manifest, num_known=num_known, wait_s=wait_s)
        if available != self.available:
            self.available = available
            self._on_news()
