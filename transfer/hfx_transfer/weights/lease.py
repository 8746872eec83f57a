"""The promises of a seed: while a lease is open, its bytes stay in place and unchanged.

Decides and counts; knows no clock, no network and no memory. Leases on weights that are to go
are asked back: their holders hear of it at the next renewal, and what they do not hand back runs
out on its own, so a holder that died keeps memory for one lease's duration at most.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than


class LeaseState(StrEnum):
    """Where one lease stands. RELEASED and EXPIRED are final."""

    ACTIVE = "active"
    ENDING = "ending"
    """The seed wants the bytes back; they stay until the holder agrees or the time is over."""
    RELEASED = "released"
    EXPIRED = "expired"


class LeaseEvent(StrEnum):
    """What happens to a lease."""

    RENEW = "renew"
    ASK_BACK = "ask_back"
    RELEASE = "release"
    TIME_OVER = "time_over"


TRANSITIONS: dict[tuple[LeaseState, LeaseEvent], LeaseState] = {
    (LeaseState.ACTIVE, LeaseEvent.RENEW): LeaseState.ACTIVE,
    (LeaseState.ACTIVE, LeaseEvent.ASK_BACK): LeaseState.ENDING,
    (LeaseState.ACTIVE, LeaseEvent.RELEASE): LeaseState.RELEASED,
    (LeaseState.ACTIVE, LeaseEvent.TIME_OVER): LeaseState.EXPIRED,
    # A renewal that comes too late changes nothing: its answer says that the weights change.
    (LeaseState.ENDING, LeaseEvent.RENEW): LeaseState.ENDING,
    (LeaseState.ENDING, LeaseEvent.ASK_BACK): LeaseState.ENDING,
    (LeaseState.ENDING, LeaseEvent.RELEASE): LeaseState.RELEASED,
    (LeaseState.ENDING, LeaseEvent.TIME_OVER): LeaseState.EXPIRED,
}
"""Every event that can happen to an open lease; nothing happens to one that is over."""

OPEN = frozenset({LeaseState.ACTIVE, LeaseState.ENDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseConfig:
    """How long leases run and how many there are."""

    duration_s: float = 15.0
    """Without a renewal. Holders renew at a third of it, so two renewals may get lost; a holder
    that died keeps memory in place for that long."""
    max_open: int = 256
    """More receivers than one seed can feed; each costs a few bytes, so this only bounds abuse."""

    def __post_init__(self) -> None:
        check(
            more_than("duration_s", self.duration_s, 0),
            at_least("max_open", self.max_open, 1),
        )


@dataclass(slots=True, kw_only=True)
class Lease:
    """One promise to one holder."""

    lease_id: str
    edition: int
    """What it is on: counts the memories that the seed has served from."""
    state: LeaseState
    expires_at_s: float


class LeaseTable:
    """All open leases of a seed. Not thread-safe; its owner locks."""

    def __init__(self, config: LeaseConfig) -> None:
        self._config = config
        self._leases: dict[str, Lease] = {}
        self._num_open: Counter[int] = Counter()

    def grant(self, lease_id: str, edition: int, now_s: float) -> Lease | None:
        """Open a lease under a new id; None when there are as many as there may be."""
        if lease_id in self._leases:
            raise ValueError(f"lease {lease_id} exists")
        if len(self._leases) >= self._config.max_open:
            return None
        lease = Lease(
            lease_id=lease_id,
            edition=edition,
            state=LeaseState.ACTIVE,
            expires_at_s=now_s + self._config.duration_s,
        )
        self._leases[lease_id] = lease
        self._num_open[edition] += 1
        return lease

    def renew(self, lease_id: str, now_s: float) -> Lease | None:
        """Prolong a lease unless it is asked back; None when no such lease is open."""
        lease = self._leases.get(lease_id)
        if lease is None or now_s >= lease.expires_at_s:
            return None
        self._move(lease, LeaseEvent.RENEW)
        if lease.state is LeaseState.ACTIVE:
            lease.expires_at_s = now_s + self._config.duration_s
        return lease

    def release(self, lease_id: str) -> Lease | None:
        """End a lease for its holder; None when no such lease is open."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            self._move(lease, LeaseEvent.RELEASE)
        return lease

    def ask_back(self, edition: int) -> None:
        """Ask for every lease on an edition."""
        for lease in self._leases.values():
            if lease.edition == edition:
                self._move(lease, LeaseEvent.ASK_BACK)

    def expire(self, now_s: float) -> list[Lease]:
        """End and return the leases whose time is over."""
        over = [lease for lease in self._leases.values() if now_s >= lease.expires_at_s]
        for lease in over:
            self._move(lease, LeaseEvent.TIME_OVER)
        return over

    def num_open(self, edition: int | None = None) -> int:
        """Return how many are open, of one edition or (None) of all."""
        return len(self._leases) if edition is None else self._num_open[edition]

    def _move(self, lease: Lease, event: LeaseEvent) -> None:
        lease.state = next_state(lease.state, event)
        if lease.state not in OPEN:
            del self._leases[lease.lease_id]
            self._num_open[lease.edition] -= 1


def next_state(state: LeaseState, event: LeaseEvent) -> LeaseState:
    """Return where `event` leads from `state`.

    Raises:
        ValueError: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"lease: event {event} is impossible in state {state}") from None
