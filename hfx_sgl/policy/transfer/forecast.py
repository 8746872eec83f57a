"""When each receiver of a given tree is done: chunks through a pipeline of shared links."""

from collections import Counter
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.network import HostLinks, Task

Parents = tuple[int, ...]
"""For each receiver, in the order of their ids, the node it pulls from. Nodes are numbered: the
sources first, in the order of theirs, then the receivers."""


class Place(NamedTuple):
    """Where one node is in a tree."""

    depth: int
    """Hops from its source."""
    lag_s: float
    """When it has the first chunk."""
    bytes_per_s: float
    """What the slowest edge above it moves."""


SOURCE = Place(depth=0, lag_s=0.0, bytes_per_s=inf)


class Forecast:
    """The time model of one task.

    Links are shared evenly: an edge between hosts gets the least of the sender's uplink, the
    taker's downlink and the limit of the pair, each divided by the number of edges of the tree
    that use it; an edge within a host gets the host's local rate, divided alike. What one edge
    cannot use is not given to others, and the end of one transfer speeds up none, so that a
    forecast errs on the late side.

    A receiver is done after

        T = sum over the edges above it of (hop + chunk / rate) + (size - chunk) / slowest rate

    which is the time of a pipeline that moves one chunk after the other: the first chunk passes
    every edge, and the others follow as fast as the slowest edge lets them. With `d` edges of the
    same rate that is `size / rate + (d - 1) * chunk / rate + d * hop`. `hop` is what passes at
    each node before it notices that there is a chunk.
    """

    def __init__(self, task: Task, config: PlanConfig) -> None:
        self.sources = sorted(task.sources, key=lambda source: source.source_id)
        self.receivers = sorted(task.receivers, key=lambda receiver: receiver.receiver_id)
        self.num_sources = len(self.sources)
        host_ids = [source.host_id for source in self.sources]
        host_ids += [receiver.host_id for receiver in self.receivers]
        self.hosts = [_host(task, host_id) for host_id in host_ids]
        self.leases = [
            inf if source.num_free_leases is None else source.num_free_leases
            for source in self.sources
        ] + [inf] * len(self.receivers)
        self.size_bytes = task.size_bytes
        self._chunk_bytes = min(config.chunk_bytes, task.size_bytes)
        self._hop_s = config.hop_latency_s
        self._network = task.network
        self._pairs: dict[tuple[str, str], float] = {}

    def behind(self, above: Place, edge_bytes_per_s: float) -> Place:
        """Return the place of who pulls from `above` over an edge of that rate."""
        return Place(
            depth=above.depth + 1,
            lag_s=above.lag_s + self._hop_s + self._chunk_bytes / edge_bytes_per_s,
            bytes_per_s=min(above.bytes_per_s, edge_bytes_per_s),
        )

    def finish_s(self, place: Place) -> float:
        """Return when whoever is at this place is done."""
        return place.lag_s + (self.size_bytes - self._chunk_bytes) / place.bytes_per_s

    def pair_bytes_per_s(self, sender: HostLinks, taker: HostLinks) -> float:
        """Return the limit of a pair of hosts."""
        key = (sender.host_id, taker.host_id)
        if (limit := self._pairs.get(key)) is None:
            limit = self._pairs[key] = self._network.pair_bytes_per_s(sender, taker)
        return limit

    def places(self, parents: Parents) -> list[Place] | None:
        """Return where each receiver is; None when it is no forest or a lease is missing."""
        used = Counter(parents)
        if any(used[node] > self.leases[node] for node in range(self.num_sources)):
            return None
        rates = self._edge_rates(parents)
        places: list[Place | None] = [SOURCE] * self.num_sources
        places += [None] * len(parents)
        for first in range(self.num_sources, len(places)):
            path: list[int] = []
            node = first
            while (above := places[node]) is None:
                path.append(node)
                if len(path) > len(parents):
                    return None
                node = parents[node - self.num_sources]
            for child in reversed(path):
                above = places[child] = self.behind(above, rates[child - self.num_sources])
        return [place for place in places[self.num_sources :] if place is not None]

    def _edge_rates(self, parents: Sequence[int]) -> list[float]:
        """Return what each receiver's own edge moves."""
        hosts, shift = self.hosts, self.num_sources
        ends = [(hosts[parent], hosts[shift + i]) for i, parent in enumerate(parents)]
        leaving, entering, local = Counter[str](), Counter[str](), Counter[str]()
        pairs = Counter[tuple[str, str]]()
        for sender, taker in ends:
            if sender is taker:
                local[taker.host_id] += 1
            else:
                leaving[sender.host_id] += 1
                entering[taker.host_id] += 1
                pairs[sender.host_id, taker.host_id] += 1
        return [
            taker.local_bytes_per_s / local[taker.host_id]
            if sender is taker
            else min(
                sender.uplink_bytes_per_s / leaving[sender.host_id],
                taker.downlink_bytes_per_s / entering[taker.host_id],
                self.pair_bytes_per_s(sender, taker) / pairs[sender.host_id, taker.host_id],
            )
            for sender, taker in ends
        ]


def _host(task: Task, host_id: str) -> HostLinks:
    host = task.network.host(host_id)
    assert host is not None, "a task names no host that its network does not have"
    return host
