"""What whoever moves bytes may tell to whoever counts. Knows nothing of Prometheus.

Calls come from any thread, also in the middle of a transfer: an observer only adds up.
"""

from enum import StrEnum
from typing import Protocol

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Backend


class Direction(StrEnum):
    """Which way bytes went, seen from this process."""

    IN = "in"
    OUT = "out"


class TransferKind(StrEnum):
    """What was moved."""

    WEIGHTS = "weights"
    KV = "kv"


class ProbeOutcome(StrEnum):
    """What a look at a peer before any traffic found."""

    REACHED = "reached"
    NOT_READY = "not_ready"
    """It is there and not ready yet."""
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"
    """It answers, and does not tell what was asked: an older version, or something else."""


class TransferObserver(Protocol):
    """Counts what happens to bytes on their way."""

    def moved(self, backend: Backend, direction: Direction, num_bytes: int) -> None:
        """So many bytes have arrived, or are gone; a chunk at a time."""
        ...

    def chunk_failed(self, backend: Backend, fault: TransferFault) -> None:
        """One chunk did not move; another try may follow."""
        ...

    def transfer_ended(
        self, kind: TransferKind, fault: TransferFault | None, duration_s: float
    ) -> None:
        """All weights of one pull, or the KV of one prompt, are there; `fault`: are not, and why.

        `duration_s` counts from the first thing that was done for it.
        """
        ...

    def sources(self, num_sources: int) -> None:
        """So many sources are known for the weights that are being pulled."""
        ...

    def leases(self, num_leases: int) -> None:
        """So many loaders hold a lease on the weights that this process serves."""
        ...

    def probed(self, outcome: ProbeOutcome) -> None:
        """A peer was looked at before traffic."""
        ...

    def handed_over(self, predicted_s: float, observed_s: float) -> None:
        """An engine has told how long one hand-off of KV took; what was expected of its size."""
        ...


class _Silent:
    def moved(self, backend: Backend, direction: Direction, num_bytes: int) -> None:
        """Nothing is counted."""

    def chunk_failed(self, backend: Backend, fault: TransferFault) -> None:
        """Nothing is counted."""

    def transfer_ended(
        self, kind: TransferKind, fault: TransferFault | None, duration_s: float
    ) -> None:
        """Nothing is counted."""

    def sources(self, num_sources: int) -> None:
        """Nothing is counted."""

    def leases(self, num_leases: int) -> None:
        """Nothing is counted."""

    def probed(self, outcome: ProbeOutcome) -> None:
        """Nothing is counted."""

    def handed_over(self, predicted_s: float, observed_s: float) -> None:
        """Nothing is counted."""


NO_OBSERVER: TransferObserver = _Silent()
"""For whoever wants no counts."""
