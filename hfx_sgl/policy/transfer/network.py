"""What a distribution plan is told: hosts and their links, stores, sources and receivers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf, isnan

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.bounds import at_least, check


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLinks:
    """What one host can move, less what others use of it at the moment. All rates above 0."""

    host_id: str
    uplink_bytes_per_s: float
    """Shared by all that leaves the host; independent of the downlink."""
    downlink_bytes_per_s: float
    """Shared by all that enters it."""
    local_bytes_per_s: float
    """Through its memory, from process to process; shared by all who do so at once."""
    rack_id: str | None = None
    """None: not known, and then in the same rack as every other that is not known."""

    def __post_init__(self) -> None:
        check(
            _rate(f"{self.host_id}: uplink_bytes_per_s", self.uplink_bytes_per_s),
            _rate(f"{self.host_id}: downlink_bytes_per_s", self.downlink_bytes_per_s),
            _rate(f"{self.host_id}: local_bytes_per_s", self.local_bytes_per_s),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLimit:
    """What fits through between two hosts in one direction, whatever their links can do."""

    from_host_id: str
    to_host_id: str
    bytes_per_s: float

    def __post_init__(self) -> None:
        check(_rate(f"{self.from_host_id} to {self.to_host_id}: bytes_per_s", self.bytes_per_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All hosts that take part, and what limits them pairwise."""

    hosts: Sequence[HostLinks]
    pair_limits: Sequence[PairLimit] = ()
    cross_rack_bytes_per_s: float = inf
    """Limit of each pair of hosts in different racks for which no pair limit is given."""
    _by_id: dict[str, HostLinks] = field(init=False, repr=False, compare=False)
    _by_pair: dict[tuple[str, str], float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id = {host.host_id: host for host in self.hosts}
        by_pair = {(p.from_host_id, p.to_host_id): p.bytes_per_s for p in self.pair_limits}
        check(
            _rate("cross_rack_bytes_per_s", self.cross_rack_bytes_per_s),
            *_twice("host", [host.host_id for host in self.hosts]),
            *(
                f"pair_limits: no host {host_id}"
                for pair in by_pair
                for host_id in pair
                if host_id not in by_id
            ),
        )
        object.__setattr__(self, "_by_id", by_id)
        object.__setattr__(self, "_by_pair", by_pair)

    def host(self, host_id: str) -> HostLinks | None:
        """Return a host; None when it is not part of the network."""
        return self._by_id.get(host_id)

    def pair_bytes_per_s(self, sender: HostLinks, taker: HostLinks) -> float:
        """Return what fits through from one host to another, their links aside."""
        limit = self._by_pair.get((sender.host_id, taker.host_id))
        if limit is not None:
            return limit
        return inf if sender.rack_id == taker.rack_id else self.cross_rack_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A disk or a file service that holds the weights; shared by all who read from it at once."""

    store_id: str
    bytes_per_s: float

    def __post_init__(self) -> None:
        check(_rate(f"{self.store_id}: bytes_per_s", self.bytes_per_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who has the weights in memory."""

    source_id: str
    host_id: str
    num_free_leases: int | None = None
    """How many may pull from it directly; None when it sets no limit."""

    def __post_init__(self) -> None:
        if self.num_free_leases is not None:
            check(at_least(f"{self.source_id}: num_free_leases", self.num_free_leases, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Who needs them, and passes them on as they come."""

    receiver_id: str
    host_id: str
    store_id: str | None = None
    """From where it could read them instead; None: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One distribution: what, from whom, to whom, over what.

    Raises:
        ConfigError: nobody to pull from, an id twice, or a host or store that is not described.
    """

    size_bytes: int
    sources: Sequence[Source]
    receivers: Sequence[Receiver]
    network: Network
    stores: Sequence[Store] = ()

    def __post_init__(self) -> None:
        node_ids = [s.source_id for s in self.sources] + [r.receiver_id for r in self.receivers]
        host_ids = [s.host_id for s in self.sources] + [r.host_id for r in self.receivers]
        store_ids = {store.store_id for store in self.stores}
        check(
            at_least("size_bytes", self.size_bytes, 1),
            None if self.receivers else "receivers: must be at least one (got none)",
            *_twice("source or receiver", node_ids),
            *_twice("store", [store.store_id for store in self.stores]),
            *(f"network: no host {h}" for h in host_ids if self.network.host(h) is None),
            *(
                f"stores: no store {r.store_id}"
                for r in self.receivers
                if r.store_id is not None and r.store_id not in store_ids
            ),
        )
        if not any(source.num_free_leases != 0 for source in self.sources):
            raise ConfigError("sources: none has a free lease")


def _rate(name: str, value: float) -> str | None:
    """Return the problem with a rate; without limit is a rate as well."""
    return f"{name}: must be more than 0 (got {value})" if isnan(value) or value <= 0 else None


def _twice(what: str, ids: Sequence[str]) -> Iterable[str]:
    return (f"{what} {each}: given twice" for each in sorted(set(ids)) if ids.count(each) > 1)
