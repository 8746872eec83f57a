"""Distribution tasks for tests: hosts `h0`, `h1`, ... and a source on the first of them."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from hfx_sgl.policy.transfer.network import (
    HostLinks,
    Network,
    PairLimit,
    Receiver,
    Source,
    Store,
    Task,
)

GB = 1_000_000_000


def host(
    name: str, rate: float = GB, *, local: float = 4 * GB, rack: str | None = None
) -> HostLinks:
    return HostLinks(
        host_id=name,
        uplink_bytes_per_s=rate,
        downlink_bytes_per_s=rate,
        local_bytes_per_s=local,
        rack_id=rack,
    )


def task(
    receiver_hosts: Sequence[str],
    hosts: Sequence[HostLinks],
    *,
    size_bytes: int = 16 * GB,
    source_hosts: Sequence[str] = ("h0",),
    num_free_leases: int | None = None,
    stores: Sequence[Store] = (),
    cross_rack_bytes_per_s: float = float("inf"),
) -> Task:
    """Return a task with sources `s0`, ... and receivers `r0`, ..., who use the first store."""
    return Task(
        size_bytes=size_bytes,
        sources=[
            Source(source_id=f"s{i}", host_id=name, num_free_leases=num_free_leases)
            for i, name in enumerate(source_hosts)
        ],
        receivers=[
            Receiver(
                receiver_id=f"r{i}",
                host_id=name,
                store_id=stores[0].store_id if stores else None,
            )
            for i, name in enumerate(receiver_hosts)
        ],
        network=Network(hosts=hosts, cross_rack_bytes_per_s=cross_rack_bytes_per_s),
        stores=stores,
    )


rates = st.sampled_from([0.1 * GB, 0.5 * GB, GB, 1.25 * GB, 5 * GB, 12.5 * GB])


@st.composite
def tasks(draw: st.DrawFn, max_receivers: int = 7) -> Task:
    """Draw a task with unequal hosts, racks, pair limits, several sources and leases."""
    num_hosts = draw(st.integers(1, 5))
    names = [f"h{i}" for i in range(num_hosts)]
    hosts = [
        HostLinks(
            host_id=name,
            uplink_bytes_per_s=draw(rates),
            downlink_bytes_per_s=draw(rates),
            local_bytes_per_s=draw(rates),
            rack_id=draw(st.sampled_from([None, "a", "b"])),
        )
        for name in names
    ]
    pairs = draw(
        st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), max_size=2, unique=True)
    )
    network = Network(
        hosts=hosts,
        pair_limits=[
            PairLimit(from_host_id=one, to_host_id=other, bytes_per_s=draw(rates))
            for one, other in pairs
        ],
        cross_rack_bytes_per_s=draw(rates),
    )
    places = st.lists(st.sampled_from(names), min_size=1, max_size=max_receivers)
    drawn = task(draw(places), hosts, size_bytes=draw(st.sampled_from([1, 10**6, 10**9, 10**11])))
    sources = [
        Source(
            source_id=f"s{i}",
            host_id=draw(st.sampled_from(names)),
            num_free_leases=draw(st.sampled_from([None, None, 1, 2])),
        )
        for i in range(draw(st.integers(1, 2)))
    ]
    return replace(drawn, sources=sources, network=network)
