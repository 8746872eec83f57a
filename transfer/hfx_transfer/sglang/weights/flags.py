"""The flags and the environment that make SGLang take weights from a peer. Pure."""

import math
from urllib.parse import urlsplit

from hfx_transfer.sglang.weights.report import SourceReport

LOAD_FORMAT = "remote_instance"
"""What `/model_info` says of a server that did take its weights from a peer."""

DEFAULT_WEIGHT_VERSION = "default"

_SYNC_TIMEOUT_S = 30
"""Mooncake's own limit for one batch, to which it adds a nanosecond a byte."""
_MAX_QUEUED = 1024
"""How many reads Mooncake's TCP transport queues for a peer by itself; one for each tensor."""


def clone_args(url: str, *, weight_version: str | None = None) -> tuple[str, ...]:
    """Return the flags to be put behind all others; a later one wins.

    The version is passed on since SGLang does not ask the source for it.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    args = [
        "--load-format", LOAD_FORMAT,
        # SGLang's default is NCCL, which needs ports of its own and a group for each pair.
        "--remote-instance-weight-loader-backend", "transfer_engine",
        # SGLang makes a URL of the two, without brackets.
        "--remote-instance-weight-loader-seed-instance-ip", f"[{host}]" if ":" in host else host,
        "--remote-instance-weight-loader-seed-instance-service-port", str(parts.port),
    ]  # fmt: skip
    if weight_version not in (None, DEFAULT_WEIGHT_VERSION):
        args += ["--weight-version", str(weight_version)]
    return tuple(args)


def clone_env(report: SourceReport, *, min_bytes_per_s: float) -> dict[str, str]:
    """Return Mooncake's limits where its own would end a transfer that is well under way."""
    env: dict[str, str] = {}
    largest_bytes = max(rank.size_bytes for rank in report.ranks)
    needed_s = math.ceil(largest_bytes / min_bytes_per_s)
    if needed_s > _SYNC_TIMEOUT_S + largest_bytes / 1e9:
        env["MC_TRANSFER_TIMEOUT"] = str(needed_s)
    num_tensors = max(len(rank.sizes_bytes) for rank in report.ranks)
    if num_tensors > _MAX_QUEUED:
        # SGLang asks for all tensors at once, and what is over the limit fails at once.
        env["MC_TCP_MAX_QUEUED_TRANSFERS_PER_PEER"] = str(num_tensors)
        env["MC_TCP_MAX_PENDING_ADMISSIONS_PER_PEER"] = str(num_tensors)
    return env
