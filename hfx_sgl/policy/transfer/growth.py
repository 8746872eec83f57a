"""Trees worth looking at: chains, stars, and what grows between them, node by node."""

from collections import Counter
from collections.abc import Iterator
from math import inf

from hfx_sgl.policy.transfer.forecast import SOURCE, Forecast, Parents
from hfx_sgl.policy.transfer.network import HostLinks

_FAN_OUTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Into how many parts an uplink is divided; finer steps are left to the search that follows."""


def candidates(forecast: Forecast) -> Iterator[Parents]:
    """Yield trees for every receiver, stars and chains of each source among them."""
    for source in range(forecast.num_sources):
        yield star(forecast, source)
        yield chain(forecast, source)
    orders = _orders(forecast)
    for level in _levels(forecast):
        for order in orders:
            yield _grown(forecast, order, level)


def star(forecast: Forecast, source: int) -> Parents:
    """Return the tree in which all pull from one source."""
    return (source,) * len(forecast.receivers)


def chain(forecast: Forecast, source: int) -> Parents:
    """Return the tree in which each pulls from the one before it, in the order of their ids."""
    first = forecast.num_sources
    return (source, *range(first, first + len(forecast.receivers) - 1))


def _orders(forecast: Forecast) -> list[list[int]]:
    """Return the receivers with those first that have most to pass on, and so rack by rack."""
    hosts, num_sources = forecast.hosts, forecast.num_sources
    near = {host.rack_id for host in hosts[:num_sources]}

    def capacity(node: int) -> float:
        return -min(hosts[node].uplink_bytes_per_s, hosts[node].downlink_bytes_per_s)

    def rack(node: int) -> tuple[bool, str]:
        rack_id = hosts[node].rack_id
        return rack_id not in near, rack_id or ""

    receivers = range(num_sources, len(hosts))
    by_capacity = sorted(receivers, key=lambda node: (capacity(node), hosts[node].host_id, node))
    by_rack = sorted(
        receivers, key=lambda node: (rack(node), capacity(node), hosts[node].host_id, node)
    )
    return [by_capacity] if by_rack == by_capacity else [by_capacity, by_rack]


def _levels(forecast: Forecast) -> list[float]:
    """Return the rates below which no edge is meant to fall; without limit: nobody has two."""
    num_receivers = len(forecast.receivers)
    uplinks = sorted({h.uplink_bytes_per_s for h in forecast.hosts if h.uplink_bytes_per_s < inf})
    kept = {uplinks[0], uplinks[len(uplinks) // 2], uplinks[-1]} if uplinks else set()
    fan_outs = [*(k for k in _FAN_OUTS if k < num_receivers), num_receivers]
    return [inf, *sorted({uplink / k for uplink in kept for k in fan_outs}, reverse=True)]


def _grown(forecast: Forecast, order: list[int], level: float) -> Parents:
    """Attach one receiver after the other to whoever would serve it soonest."""
    tree = _Growing(forecast, level)
    for node in order:
        tree.attach(node)
    return tuple(tree.parent_of[node] for node in range(forecast.num_sources, len(forecast.hosts)))


class _Growing:
    """A tree of some of the receivers, with the shares that its edges have so far."""

    def __init__(self, forecast: Forecast, level: float) -> None:
        self.parent_of: dict[int, int] = {}
        self._forecast = forecast
        self._level = level
        self._places = dict.fromkeys(range(forecast.num_sources), SOURCE)
        """Of whoever has been reached, with the shares of that moment."""
        self._num_children = Counter[int]()
        self._leaving, self._local = Counter[str](), Counter[str]()
        self._entering, self._pairs = Counter[str](), Counter[tuple[str, str]]()

    def attach(self, node: int) -> None:
        """Choose the parent of `node`; beyond the level only when all others are worse off yet."""
        open_nodes = [
            parent
            for parent in self._places
            if self._num_children[parent] < self._forecast.leases[parent]
        ]
        within = [parent for parent in open_nodes if self._is_within(parent, node)]
        offers = {
            parent: self._forecast.behind(self._places[parent], self._rate(parent, node))
            for parent in within or open_nodes
        }

        def finish(parent: int) -> tuple[float, int, int]:
            return self._forecast.finish_s(offers[parent]), offers[parent].depth, parent

        parent = min(offers, key=finish)
        self.parent_of[node] = parent
        self._places[node] = offers[parent]
        self._count(parent, node)

    def _is_within(self, parent: int, node: int) -> bool:
        sender, taker = self._hosts(parent, node)
        num_leaving = self._leaving[sender.host_id]
        return (
            sender is taker
            or not num_leaving
            or sender.uplink_bytes_per_s / (num_leaving + 1) >= self._level
        )

    def _rate(self, parent: int, node: int) -> float:
        sender, taker = self._hosts(parent, node)
        if sender is taker:
            return taker.local_bytes_per_s / (self._local[taker.host_id] + 1)
        pair = (sender.host_id, taker.host_id)
        return min(
            sender.uplink_bytes_per_s / (self._leaving[sender.host_id] + 1),
            taker.downlink_bytes_per_s / (self._entering[taker.host_id] + 1),
            self._forecast.pair_bytes_per_s(sender, taker) / (self._pairs[pair] + 1),
        )

    def _count(self, parent: int, node: int) -> None:
        sender, taker = self._hosts(parent, node)
        self._num_children[parent] += 1
        if sender is taker:
            self._local[taker.host_id] += 1
            return
        self._leaving[sender.host_id] += 1
        self._entering[taker.host_id] += 1
        self._pairs[sender.host_id, taker.host_id] += 1

    def _hosts(self, parent: int, node: int) -> tuple[HostLinks, HostLinks]:
        return self._forecast.hosts[parent], self._forecast.hosts[node]
