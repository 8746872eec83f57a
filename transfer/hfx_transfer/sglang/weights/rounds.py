"""Who starts from whom when several servers are to be started: one round of it at a time. Pure.

SGLang takes weights from servers that serve, so a server passes on what it has only when it has
all of it and has started. The plan of `hfx_sgl.policy.transfer` covers that as the case of one
chunk as large as everything, with a start of an engine between two hops.
"""

from collections.abc import Sequence

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.distribution import plan_distribution
from hfx_sgl.policy.transfer.network import HostLinks, Network, Receiver, Task
from hfx_sgl.policy.transfer.network import Source as PlannedSource
from hfx_transfer.sglang.weights.locality import THIS_HOST
from hfx_transfer.sglang.weights.plan import Source
from hfx_transfer.sglang.weights.settings import CloneSettings

_NEVER_S = 1e9
"""Longer than any transfer: nobody waits for a server that passes nothing on."""


def next_round(
    names: Sequence[str],
    sources: Sequence[Source],
    settings: CloneSettings,
    *,
    can_pass_on: bool,
) -> dict[str, str]:
    """Return from which URL each server starts that starts in this round; the others wait.

    Args:
        names: the servers to be started.
        sources: all that serve, at least one.
        can_pass_on: whether a server that is started in this round is a source in the next.
    """
    config = PlanConfig(
        chunk_bytes=max(1, sources[0].report.size_bytes),
        hop_latency_s=settings.engine_start_s if can_pass_on else _NEVER_S,
    )
    plan = plan_distribution(_task(names, sources, settings), config)
    urls = {source.url for source in sources}
    return {each.receiver_id: each.parent_id for each in plan.assignments if each.parent_id in urls}


def _task(names: Sequence[str], sources: Sequence[Source], settings: CloneSettings) -> Task:
    """Each source as a host of its own, whose uplink is as slow as it is loaded or far away."""
    local = settings.source.same_host_bytes_per_s
    size_bytes = max(1, sources[0].report.size_bytes)
    hosts = [
        HostLinks(
            host_id=source.url,
            uplink_bytes_per_s=size_bytes / source.ranking.cost_s,
            downlink_bytes_per_s=local,
            local_bytes_per_s=local,
        )
        for source in sources
    ]
    hosts.append(
        HostLinks(
            host_id=THIS_HOST,
            uplink_bytes_per_s=local,
            downlink_bytes_per_s=local,
            local_bytes_per_s=local,
        )
    )
    return Task(
        size_bytes=size_bytes,
        sources=[PlannedSource(source_id=each.url, host_id=each.url) for each in sources],
        receivers=[Receiver(receiver_id=name, host_id=THIS_HOST) for name in names],
        network=Network(hosts=hosts),
    )
