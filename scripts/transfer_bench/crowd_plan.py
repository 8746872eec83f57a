"""Who of several receivers pulls from whom, as this project's own plan says."""

from collections.abc import Sequence

import msgspec
from transfer_bench.results import Crowd, Settings

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.distribution import DistributionPlan, plan_distribution
from hfx_sgl.policy.transfer.network import HostLinks, Network, Receiver, Source, Task

_SOURCE = "source"
_LOCAL_BYTES_PER_S = 1e9
"""Any rate: all links of loopback are equal, so it does not change who pulls from whom."""

PLANNED = frozenset((Crowd.TCP_PLAN, Crowd.LINKS_PLAN))
MAPPED = frozenset((Crowd.SHM, Crowd.SHM_CHECKED))
LIMITED = frozenset((Crowd.LINKS_STAR, Crowd.LINKS_PLAN))


class CrowdPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many, how often, and over what."""

    num_receivers: int
    num_rounds: int
    link_bytes_per_s: float
    link_size_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "CrowdPlan":
        """Return what the settings say about it."""
        return cls(
            num_receivers=settings.num_receivers,
            num_rounds=settings.num_crowd_rounds,
            link_bytes_per_s=settings.link_bytes_per_s,
            link_size_bytes=settings.link_size_bytes,
        )


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """What one receiver is told."""

    url: str
    crowd: Crowd
    host: str
    port: int | None
    """Where it serves what it has; None when nobody pulls from it."""


class Pulls(msgspec.Struct, frozen=True, kw_only=True):
    """What all are told."""

    pulls: list[Pull]
    shape: str
    predicted_s: float | None
    """What the plan says about the last of them; None where the links' rates are not known."""


def pulls(
    plan: CrowdPlan,
    crowd: Crowd,
    size_bytes: int,
    source_url: str,
    hosts: Sequence[str],
    ports: Sequence[int],
) -> Pulls:
    """Return what each receiver does; the source has the first of `hosts`."""
    own_hosts = hosts[1 : 1 + len(ports)]
    if crowd not in PLANNED:
        told = [Pull(url=source_url, crowd=crowd, host=host, port=None) for host in own_hosts]
        return Pulls(pulls=told, shape="star", predicted_s=None)
    found = _plan(plan, crowd, size_bytes, len(ports))
    parents = {int(each.receiver_id): each.parent_id for each in found.assignments}
    urls = {str(i): f"http://{own_hosts[i]}:{ports[i]}" for i in range(len(ports))}
    urls[_SOURCE] = source_url
    relays = set(parents.values())
    told = [
        Pull(
            url=urls[parents[i]],
            crowd=crowd,
            host=own_hosts[i],
            port=ports[i] if str(i) in relays else None,
        )
        for i in range(len(ports))
    ]
    is_known = crowd in LIMITED
    return Pulls(
        pulls=told, shape=found.shape, predicted_s=found.last_finish_s if is_known else None
    )


def _plan(plan: CrowdPlan, crowd: Crowd, size_bytes: int, num_receivers: int) -> DistributionPlan:
    """Treat every process as a host of its own, all links equal."""
    rate = plan.link_bytes_per_s if crowd in LIMITED else _LOCAL_BYTES_PER_S
    names = [_SOURCE, *map(str, range(num_receivers))]
    hosts = [
        HostLinks(
            host_id=name,
            uplink_bytes_per_s=rate,
            downlink_bytes_per_s=rate,
            local_bytes_per_s=_LOCAL_BYTES_PER_S,
        )
        for name in names
    ]
    task = Task(
        size_bytes=size_bytes,
        sources=[Source(source_id=_SOURCE, host_id=_SOURCE)],
        receivers=[Receiver(receiver_id=name, host_id=name) for name in names[1:]],
        network=Network(hosts=hosts),
    )
    return plan_distribution(task, PlanConfig())
