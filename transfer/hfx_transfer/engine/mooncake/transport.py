"""Says what moves the bytes in truth.

The protocol that Mooncake is asked for decides nothing: any word is accepted. Its transport
follows from how it was built, which adapters it finds and two or three variables, in this order.
"""

import json
from collections.abc import Mapping

from hfx_transfer.engine.mooncake.native_library import Library

TCP = "tcp"


def transport_of(library: Library, environment: Mapping[str, str], topology: str) -> str:
    """Return the transport of an engine: `tcp`, `rdma`, `ascend`, `nvlink` or `nvlink_intra`.

    Args:
        library: how it was built.
        environment: the variables as they were when the engine was made.
        topology: what the engine itself found, from `get_local_topology`; blank where TCP is
            forced.
    """
    if is_tcp_forced(environment):
        return TCP
    if library.extra == "npu":
        return "ascend"
    has_adapters = bool(adapters_in(topology))
    if library.supports("INTRA_NVLINK") or library.supports("MNNVL"):
        if "MC_INTRANODE_NVLINK" in environment:
            return "nvlink_intra"
        if "MC_FORCE_MNNVL" in environment or not has_adapters:
            return "nvlink"
    return "rdma" if has_adapters else TCP


def is_tcp_forced(environment: Mapping[str, str]) -> bool:
    """Whether adapters and links between devices do not count: by the variable's presence."""
    return "MC_FORCE_TCP" in environment


def adapters_in(topology: str) -> set[str]:
    """Return the adapters in a topology: JSON of lists of them, near and far, by location."""
    found = json.loads(topology) if topology.strip() else {}
    return {name for tiers in found.values() for tier in tiers for name in tier}


def device_kinds(library: Library) -> set[str]:
    """Return the kinds of devices whose memory this build moves."""
    kinds = {"cpu"}
    if library.supports("CUDA") or library.extra == "cuda":
        kinds.add("cuda")
    if library.extra == "npu":
        kinds.add("npu")
    return kinds


def location_of(device: str) -> str:
    """Return how Mooncake names where a slab lies: `*` has it find out itself, but not on NPUs."""
    return device if device.startswith("npu") else "*"
