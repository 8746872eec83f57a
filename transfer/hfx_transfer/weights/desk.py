"""What a seed knows of its generations and leases: answers receivers, pins what is promised."""

import secrets
import threading
from dataclasses import dataclass

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.observer import TransferObserver
from hfx_transfer.weights import manifest as manifests
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.lease import LeaseConfig, LeaseState, LeaseTable
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.wire import ChunkState, LeaseGrant, LeaseRequest, pack_bitmap


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A generation that receivers can ask for."""

    holding: Holding
    manifest: Manifest


class Desk:
    """Serves one generation at a time; a lease keeps its generation's slabs pinned.

    Thread-safe and quick: the control plane asks from its loop, the owner from anywhere.
    """

    def __init__(self, config: LeaseConfig, clock: Clock, observer: TransferObserver) -> None:
        self._config = config
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._leases = LeaseTable(config)
        self._promised: dict[int, Holding] = {}
        """By edition: what leases may be open on."""
        self._edition = 0
        """Counts the holdings that were served; the same weights may come in other memory."""
        self._current: Published | None = None
        self._json = b""

    def show(self, published: Published) -> None:
        """Serve a generation from here on; the one before was retired."""
        data = manifests.encode(published.manifest)
        with self._lock:
            self._json = data
            self._edition += 1
            self._promised[self._edition] = published.holding
            self._current = published

    def retire(self) -> Published | None:
        """Serve nothing from here on and ask all leases back; return what was served."""
        with self._lock:
            retired, self._current = self._current, None
            if retired is not None:
                self._leases.ask_back(self._edition)
                self._forget(self._edition)
        return retired

    def current(self) -> Published:
        """Return what is served.

        Raises:
            TransferError: nothing at the moment (unavailable).
        """
        current = self._current
        if current is None:
            raise TransferError("nothing is served", fault=TransferFault.UNAVAILABLE)
        return current

    def num_leases(self) -> int:
        """Return how many leases are open, on any generation."""
        with self._lock:
            return self._leases.num_open()

    def manifest(self) -> bytes:
        """Return what is served as JSON."""
        self.current()
        return self._json

    def grant(self, request: LeaseRequest) -> LeaseGrant:
        """Open a lease.

        Raises:
            TransferError: other weights are served (generation_changed), or there are too many
                leases (unavailable).
        """
        self.sweep()
        with self._lock:
            current = self.current()
            asked = (request.generation, request.model_hash)
            if asked != (current.manifest.generation, current.manifest.model_hash):
                raise TransferError(
                    f"generation {current.manifest.generation} is served, not {request.generation}",
                    fault=TransferFault.GENERATION_CHANGED,
                )
            lease_id = secrets.token_hex(16)
            lease = self._leases.grant(lease_id, self._edition, self._clock.now_s())
            if lease is None:
                raise TransferError(
                    f"{self._config.max_open} leases are open, no more are given",
                    fault=TransferFault.UNAVAILABLE,
                )
            current.holding.pin()
            self._observer.leases(self._leases.num_open())
        return LeaseGrant(lease_id=lease_id, duration_s=self._config.duration_s)

    def renew(self, lease_id: str) -> LeaseGrant:
        """Prolong a lease.

        Raises:
            TransferError: it is over (lease_expired) or asked back (generation_changed).
        """
        self.sweep()
        with self._lock:
            lease = self._leases.renew(lease_id, self._clock.now_s())
        if lease is None:
            raise TransferError("no such lease is open", fault=TransferFault.LEASE_EXPIRED)
        if lease.state is LeaseState.ENDING:
            raise TransferError(
                "these weights are served no longer",
                fault=TransferFault.GENERATION_CHANGED,
            )
        return LeaseGrant(lease_id=lease_id, duration_s=self._config.duration_s)

    def release(self, lease_id: str) -> None:
        """End a lease for its holder; nothing happens when it is over already."""
        with self._lock:
            lease = self._leases.release(lease_id)
            if lease is not None:
                self._unpin(lease.edition)

    def num_verified(self) -> int:
        """Return how many chunks of what is served are verified; 0 when nothing is."""
        current = self._current
        return 0 if current is None else len(current.holding.verified)

    def chunk_state(self) -> ChunkState:
        """Return which chunks are verified."""
        current = self.current()
        verified = current.holding.verified
        bitmap = b"" if verified.is_complete else verified.bitmap()
        return ChunkState(
            model_hash=current.manifest.model_hash,
            generation=current.manifest.generation,
            num_chunks=verified.num_chunks,
            num_verified=int.from_bytes(bitmap).bit_count() if bitmap else verified.num_chunks,
            bitmap=pack_bitmap(bitmap),
        )

    def sweep(self) -> None:
        """End the leases whose time is over."""
        self._end(self._clock.now_s())

    def end_all(self) -> None:
        """End every lease, whatever was promised: the seed itself ends."""
        self._end(float("inf"))

    def _end(self, now_s: float) -> None:
        with self._lock:
            for lease in self._leases.expire(now_s):
                self._unpin(lease.edition)

    def _unpin(self, edition: int) -> None:
        self._promised[edition].unpin()
        self._observer.leases(self._leases.num_open())
        self._forget(edition)

    def _forget(self, edition: int) -> None:
        """Let go of what is neither served nor promised."""
        is_served = self._current is not None and edition == self._edition
        if not is_served and not self._leases.num_open(edition):
            del self._promised[edition]
