"""What a backend is told at its start. Says nothing about which backend it is."""

import ipaddress
import math
from dataclasses import dataclass, field

from hfx_sgl.errors import ConfigError

_MAX_PORT = 65535
_MAX_LANES = 16
"""Mooncake accepts no more connections to one peer."""
_MAX_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Where an engine listens, how it proves itself and how long it waits.

    Raises:
        ConfigError: a field is out of its bounds.
    """

    listen_host: str = "127.0.0.1"
    """Interface that peers connect to. Mooncake's TCP listens on all of them whatever is said."""

    advertise_host: str | None = None
    """What peers are told to connect to; None for `listen_host`."""

    port: int | None = None
    """Port that peers connect to; None for any free one. Mooncake takes any two free ports of the
    2000 from here on, for each of its engines."""

    token: str | None = field(default=None, repr=False)
    """What both sides must know. None accepts everybody, which the socket backend allows on
    loopback only; mooncake, shm and file cannot ask for one."""

    lanes: int | None = None
    """Connections, or copying threads, to one peer. None for what the backend is fastest with: 4
    for mooncake (its own default), 2 for the others, as two saturate a pair of cores."""

    progress_timeout_s: float = 5.0
    """How long no byte may move before a transfer has failed. TCP repeats a lost segment after
    0.2, 0.6, 1.4 and 3 s, so that four losses in a row are survived; Mooncake's 30 s would make
    a hung source cost more than a start from disk."""

    first_contact_timeout_s: float = 4.0
    """How long a peer may take until it has answered for the first time. A lost SYN is repeated
    after 1 and 3 s. `connect` is told the limit by its caller, who takes it from here."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ConfigError(*problems)

    @property
    def advertised_host(self) -> str:
        """The host that goes into handles."""
        return self.advertise_host or self.listen_host


def _problems(settings: EngineSettings) -> list[str]:
    problems = []
    if not settings.listen_host:
        problems.append("listen_host: must not be empty")
    if _is_wildcard(settings.advertised_host):
        problems.append(
            "advertise_host: must be given when listen_host is a wildcard "
            f"(peers cannot connect to {settings.advertised_host})"
        )
    if settings.port is not None and not 1 <= settings.port <= _MAX_PORT:
        problems.append(f"port: must be in 1..{_MAX_PORT} ({settings.port})")
    if settings.token is not None and not settings.token:
        problems.append("token: must not be empty; leave it out to accept everybody")
    if settings.lanes is not None and not 1 <= settings.lanes <= _MAX_LANES:
        problems.append(f"lanes: must be in 1..{_MAX_LANES} ({settings.lanes})")
    for name in ("progress_timeout_s", "first_contact_timeout_s"):
        limit_s = getattr(settings, name)
        if not (math.isfinite(limit_s) and 0 < limit_s <= _MAX_TIMEOUT_S):
            problems.append(f"{name}: must be above 0 and at most {_MAX_TIMEOUT_S:g} ({limit_s})")
    return problems


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
