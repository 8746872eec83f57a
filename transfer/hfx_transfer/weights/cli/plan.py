"""`hfx-weights plan`: who of many receivers had best pull from whom."""

import argparse
from typing import Any

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.distribution import DistributionPlan, plan_distribution
from hfx_sgl.policy.transfer.network import HostLinks, Network, Receiver, Source, Store, Task
from hfx_sgl.policy.transfer.report import plan_lines

_BITS = 8


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "plan",
        help="print who pulls from whom",
        description="Prints the fastest way to bring weights to several new instances at once, "
        "and for each the sources to pass to `hfx-weights pull --at-once 1`, in that order.",
    )
    parser.set_defaults(run=_run)
    who = parser.add_argument_group("who")
    who.add_argument("--size-gb", type=float, required=True, help="the weights, in 10^9 bytes")
    who.add_argument("--receivers", type=int, required=True, metavar="N", help="new instances")
    who.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="instances that have them (%(default)s)"
    )
    who.add_argument(
        "--per-host",
        type=int,
        default=1,
        metavar="N",
        help="receivers on one host; seeds have a host each (%(default)s)",
    )
    what = parser.add_argument_group("over what")
    what.add_argument(
        "--link-gbit", type=float, default=10.0, help="each host's link, Gbit/s (%(default)s)"
    )
    what.add_argument(
        "--local-gbit", type=float, default=32.0, help="within a host, Gbit/s (%(default)s)"
    )
    what.add_argument(
        "--disk-mbyte",
        type=float,
        metavar="RATE",
        help="shared storage, 10^6 bytes/s, to compare with (no comparison)",
    )


def _run(args: argparse.Namespace) -> None:
    plan = plan_distribution(_task(args), PlanConfig())
    for line in plan_lines(plan):
        print(line)
    for assignment in plan.assignments:
        name = assignment.receiver_id
        print(f"{name}: pull --at-once 1 {' '.join(sources_of(plan, name))}")


def sources_of(plan: DistributionPlan, receiver_id: str) -> list[str]:
    """Return whom a receiver asks, in order: its parent, that one's parent, and so on."""
    parents = {each.receiver_id: each.parent_id for each in plan.assignments}
    found = []
    while receiver_id in parents:
        receiver_id = parents[receiver_id]
        found.append(receiver_id)
    return found


def _task(args: argparse.Namespace) -> Task:
    link, local = args.link_gbit * 1e9 / _BITS, args.local_gbit * 1e9 / _BITS
    sources = [Source(source_id=f"seed-{i}", host_id=f"seed-host-{i}") for i in range(args.seeds)]
    receivers = [
        Receiver(
            receiver_id=f"receiver-{i}",
            host_id=f"host-{i // max(1, args.per_host)}",
            store_id=None if args.disk_mbyte is None else "disk",
        )
        for i in range(args.receivers)
    ]
    host_ids = dict.fromkeys([*(s.host_id for s in sources), *(r.host_id for r in receivers)])
    hosts = [
        HostLinks(
            host_id=host_id,
            uplink_bytes_per_s=link,
            downlink_bytes_per_s=link,
            local_bytes_per_s=local,
        )
        for host_id in host_ids
    ]
    stores = []
    if args.disk_mbyte is not None:
        stores.append(Store(store_id="disk", bytes_per_s=args.disk_mbyte * 1e6))
    return Task(
        size_bytes=round(args.size_gb * 1e9),
        sources=sources,
        receivers=receivers,
        network=Network(hosts=hosts),
        stores=stores,
    )
