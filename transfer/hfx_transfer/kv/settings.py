"""What the two sides of KV hand-offs are told at their start."""

from dataclasses import dataclass, field

from hfx_sgl.errors import ConfigError
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.settings import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoffSettings:
    """Where one side listens, how it proves itself and how long it waits.

    Raises:
        ConfigError: a field is out of its bounds.
    """

    listen_host: str = "127.0.0.1"
    """Of the control port (receiver) and the life port (sender); the other side connects to it."""
    token: str | None = field(default=None, repr=False)
    """What both sides must know; None is allowed on loopback only."""
    connect_timeout_s: float = 4.0
    """For the control connection. A lost SYN is repeated after 1 and 3 s."""
    first_contact_timeout_s: float = 4.0
    """For the first contact of the transfer engines, for the same reason."""
    greeting_timeout_s: float = 5.0
    """How long a connection may stay silent before its first word, and that word's answer."""
    late_write_hold_s: float | None = None
    """How long pages are kept after a failed transfer or the sender's death. None: nothing for
    shared memory; else six seconds, one more than the engines' default progress timeout, after
    which they drop a connection that moves no byte. To be raised with that."""
    probe_interval_s: float = 0.25
    """How often a sender whose connection broke is looked for."""
    return_for_s: float = 60.0
    """How long a sender tries to come back to say that its transfers have ended."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: must be above 0 ({getattr(self, name)})"
            for name in (
                "connect_timeout_s", "first_contact_timeout_s", "greeting_timeout_s",
                "probe_interval_s", "return_for_s",
            )
            if getattr(self, name) <= 0
        ]  # fmt: skip
        if self.late_write_hold_s is not None and self.late_write_hold_s < 0:
            problems.append(f"late_write_hold_s: must not be negative ({self.late_write_hold_s})")
        if self.token is None and not is_loopback(self.listen_host):
            problems.append(f"token: must be given to listen on {self.listen_host}")
        if problems:
            raise ConfigError(*problems)

    def hold_s(self, backend: Backend) -> float:
        """Return how long pages are kept once a sender that failed begins nothing any more."""
        if self.late_write_hold_s is not None:
            return self.late_write_hold_s
        return 0.0 if backend is Backend.SHM else _HOLD_S


_HOLD_S = 6.0
