"""The environment variables by which Mooncake is configured, each with its reason.

The library reads them when it is loaded and when an engine is made, and offers no other way. They
are set before the first import, and must not change afterwards.
"""

import math
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from hfx_sgl.errors import ConfigError
from hfx_transfer.engine.settings import EngineSettings

DEFAULT_LANES = 4

FIRST_DEFAULT_PORT = 15000
PORTS_SPAN = 2000
"""How many ports engines of one process choose among, two for each engine."""

_LAST_USABLE_PORT = 32767
"""Mooncake silently ignores a range that reaches beyond."""

FORBIDDEN = {
    "MC_TCP_PROTO": (
        "its older framing does not acknowledge, so that a write would count as done before "
        "the peer has it"
    ),
    "MC_SLICE_TIMEOUT": (
        "it ends the wait for a transfer and not the transfer, whose bytes may land later"
    ),
}
"""Variables that must not be set, and why."""

_NVLINK_REQUESTS = ("MC_INTRANODE_NVLINK", "MC_FORCE_MNNVL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """One variable as Mooncake needs it."""

    name: str
    value: str
    reason: str
    keeps_other: bool = False
    """Whether a value that is already there stays: it is a matter of taste."""


def variables(settings: EngineSettings, *, extra: str | None, has_adapters: bool) -> list[Variable]:
    """Return what has to be set for an engine with these settings.

    Args:
        settings: the engine's.
        extra: which of our extras the installed wheel belongs to; None when unknown.
        has_adapters: whether this host has RDMA adapters.

    Raises:
        ConfigError: the ports do not fit below 32768.
    """
    table = [
        *_timeouts(settings),
        *_queues(settings),
        *_ports(settings),
        Variable(
            name="MC_LOG_LEVEL",
            value="ERROR",
            reason="INFO writes eleven lines to stderr for each engine",
            keeps_other=True,
        ),
    ]
    if extra == "npu":
        table += _ascend(settings)
    elif not has_adapters:
        table.append(
            Variable(
                name="MC_FORCE_TCP",
                value="1",
                reason="no adapter is searched for where none is; builds for NVLink would choose "
                "that, which takes specially allocated memory",
                keeps_other=True,
            )
        )
    return table


def apply(table: list[Variable], environment: MutableMapping[str, str], *, is_loaded: bool) -> None:
    """Set the table's variables; what EngineSettings say overrules what was set before.

    Args:
        table: from `variables`.
        environment: where to set them: `os.environ`, which the library sees too.
        is_loaded: whether Mooncake was imported before. Then nothing can be changed any more.

    Raises:
        ConfigError: a forbidden variable is set, or Mooncake was imported with other values.
    """
    problems = [
        f"{name}: must not be set to {environment[name]!r}, because {reason}"
        for name, reason in FORBIDDEN.items()
        if name in environment
    ]
    wanted = [variable for variable in table if _has_to_change(variable, environment)]
    if is_loaded:
        problems += [
            f"{variable.name}: must be {variable.value!r}, and Mooncake was imported in this "
            f"process with {environment.get(variable.name)!r}"
            for variable in wanted
        ]
    if problems:
        raise ConfigError(*problems)
    for variable in wanted:
        environment[variable.name] = variable.value


def wants_nvlink(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the operator asked for NVLink, as Mooncake is asked: by the variable's presence."""
    return any(name in environment for name in _NVLINK_REQUESTS)


def _has_to_change(variable: Variable, environment: Mapping[str, str]) -> bool:
    if variable.name == "MC_FORCE_TCP" and wants_nvlink(environment):
        return False
    present = environment.get(variable.name)
    return present is None or (present != variable.value and not variable.keeps_other)


def _timeouts(settings: EngineSettings) -> list[Variable]:
    progress_s = str(max(1, math.ceil(settings.progress_timeout_s)))
    contact_s = str(max(1, math.ceil(settings.first_contact_timeout_s)))
    return [
        Variable(
            name="MC_TCP_PROGRESS_TIMEOUT_SEC",
            value=progress_s,
            reason="a peer that hangs would hold a transfer for 30 s; whole seconds only",
        ),
        Variable(
            name="MC_TCP_STATUS_TIMEOUT_SEC",
            value=progress_s,
            reason="the wait for an acknowledgement counts like the wait for a byte",
        ),
        Variable(
            name="MC_HANDSHAKE_CONNECT_TIMEOUT",
            value=contact_s,
            reason="an address that swallows packets would hold an engine for 5 s",
        ),
    ]


def _queues(settings: EngineSettings) -> list[Variable]:
    return [
        Variable(
            name="MC_TCP_LANES_PER_PEER",
            value=str(settings.lanes or DEFAULT_LANES),
            reason="as many transfers with one peer progress at a time as there are lanes",
        ),
        Variable(
            name="MC_TCP_ENABLE_CONNECTION_POOL",
            value="1",
            reason="without it each transfer opens a connection, for 3 ms and a TIME_WAIT",
        ),
        Variable(
            name="MC_TCP_MAX_QUEUED_TRANSFERS_PER_PEER",
            value="65535",
            reason="what exceeds the queue fails at once; 1024 is little for many pages",
        ),
        Variable(
            name="MC_TCP_MAX_PENDING_ADMISSIONS_PER_PEER",
            value="65535",
            reason="the second half of that queue",
        ),
    ]


def _ports(settings: EngineSettings) -> list[Variable]:
    first = FIRST_DEFAULT_PORT if settings.port is None else settings.port
    last = first + PORTS_SPAN - 1
    if last > _LAST_USABLE_PORT:
        raise ConfigError(
            f"port: must be at most {_LAST_USABLE_PORT - PORTS_SPAN + 1} for mooncake, which uses "
            f"{PORTS_SPAN} ports from there and none above {_LAST_USABLE_PORT} ({first})"
        )
    reason = "both ports of an engine are chosen at random from this range, for firewalls to know"
    return [
        Variable(name="MC_MIN_RPC_PORT", value=str(first), reason=reason),
        Variable(name="MC_MAX_RPC_PORT", value=str(last), reason=reason),
    ]


def _ascend(settings: EngineSettings) -> list[Variable]:
    contact_ms = str(math.ceil(settings.first_contact_timeout_s * 1000))
    transfer_ms = str(math.ceil(settings.progress_timeout_s * 1000))
    return [
        Variable(
            name="ASCEND_CONNECT_TIMEOUT",
            value=contact_ms,
            reason="first contact between two NPUs, in milliseconds",
        ),
        Variable(
            name="ASCEND_TRANSFER_TIMEOUT",
            value=transfer_ms,
            reason="one transfer between two NPUs, in milliseconds",
        ),
    ]
