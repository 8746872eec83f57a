"""What seeds and loaders can be told, with the reason for each limit in time."""

from dataclasses import dataclass, field

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.bounds import at_least, check, more_than, within
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.settings import EngineSettings, is_loopback
from hfx_transfer.engine.window import DEFAULT_WINDOW, WindowLimits
from hfx_transfer.weights.chunks import DEFAULT_CHUNK_BYTES, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES
from hfx_transfer.weights.lease import LeaseConfig
from hfx_transfer.weights.manifest import ParallelRank

DEFAULT_SEED_BACKENDS = (Backend.SHM, Backend.SOCKET)
"""Mooncake is asked for by name: over TCP it listens on all interfaces and knows no token."""

DEFAULT_LOAD_BACKENDS = (Backend.SHM, Backend.MOONCAKE, Backend.SOCKET)
"""In order of preference; each is used where the seed offers it and it works on this side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSettings:
    """How a seed serves.

    Raises:
        ConfigError: a field is out of its bounds, or a token is missing.
    """

    host: str = "127.0.0.1"
    """Interface of the control plane and of the backends."""
    advertise_host: str | None = None
    """What receivers are told to connect to; None for `host`."""
    port: int = 0
    """Port of the control plane; 0 for any free one."""
    token: str | None = field(default=None, repr=False)
    """What receivers must know. Needed beyond loopback."""
    backends: tuple[Backend, ...] = DEFAULT_SEED_BACKENDS
    chunk_bytes: int = DEFAULT_CHUNK_BYTES
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    close_timeout_s: float = 2.0
    """How long `close` lets receivers hand their leases back. They hear of it within a second;
    one that does not answer must not hold up the end of a process."""

    def __post_init__(self) -> None:
        check(
            within("port", self.port, 0, 65535),
            within("chunk_bytes", self.chunk_bytes, MIN_CHUNK_BYTES, MAX_CHUNK_BYTES),
            at_least("close_timeout_s", self.close_timeout_s, 0),
        )
        if not self.backends:
            raise ConfigError("backends: at least one is needed")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"token: needed to listen on {self.host}; without one only loopback is allowed"
            )
        self.engine_settings()

    def engine_settings(self) -> EngineSettings:
        """Return how the backends are started."""
        return EngineSettings(
            listen_host=self.host, advertise_host=self.advertise_host, token=self.token
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How a loader pulls.

    Raises:
        ConfigError: a field is out of its bounds.
    """

    token: str | None = field(default=None, repr=False)
    """What the sources ask for."""
    backends: tuple[Backend, ...] = DEFAULT_LOAD_BACKENDS
    """Those that may be used, the preferred ones first."""
    share: bool = False
    """Map the memory of a source on this host instead of copying it, where that is possible."""
    verify_shared: bool = False
    """Digest memory that is mapped, too. Its owner did so already, and will not change it."""
    device: str = "cpu"
    """Where the slabs lie, unless a module's own device says otherwise."""
    rank: ParallelRank | None = None
    """What the source's part of the model must be; None for any."""
    model_hash: str | None = None
    """What the weights must be; None for whatever the sources hold."""
    window: int = DEFAULT_WINDOW
    """Transfers under way with one source."""
    max_active_sources: int = 4
    """How many are pulled from at once. With 1, the others take over when one dies."""
    source_wait_s: float = 0.0
    """How long a source that is not there is asked again. Above 0 where sources start at the same
    time as this process, as in a chain."""
    first_contact_timeout_s: float = 4.0
    """How long a source may take to answer for the first time: a lost SYN is repeated after 1 and
    3 s, and whoever runs answers in milliseconds."""
    straggler_wait_s: float = 0.25
    """Once a source has answered, how long the others have to tell of a newer generation before
    pulling begins; hundreds of round trips. Later ones still join."""
    control_timeout_s: float = 5.0
    """How long any later answer of the control plane may take; a busy interpreter at the other
    end has been seen to need a second."""
    progress_timeout_s: float = 5.0
    """How long no byte of a transfer may move; see `EngineSettings.progress_timeout_s`."""
    availability_wait_s: float = 1.0
    """How long a source that is itself loading holds an answer back until it has something new."""
    idle_timeout_s: float = 30.0
    """How long a source that is itself loading may bring nothing new before another one is
    preferred; longer than any time after which it gives up its own source."""
    max_failures: int = 3
    """After so many failures in a row without a chunk in between, a source is given up. Single
    ones are ordinary: Mooncake refuses the first transfers after a reconnection."""
    max_restarts: int = 2
    """How often a load starts over because the weights changed meanwhile."""

    def __post_init__(self) -> None:
        positive = (
            "first_contact_timeout_s", "control_timeout_s", "progress_timeout_s",
            "availability_wait_s", "idle_timeout_s",
        )  # fmt: skip
        check(
            *(more_than(name, getattr(self, name), 0) for name in positive),
            at_least("window", self.window, 1),
            at_least("max_active_sources", self.max_active_sources, 1),
            at_least("source_wait_s", self.source_wait_s, 0),
            at_least("straggler_wait_s", self.straggler_wait_s, 0),
            at_least("max_failures", self.max_failures, 1),
            at_least("max_restarts", self.max_restarts, 0),
        )

    def window_limits(self) -> WindowLimits:
        """Return how many transfers are under way, and how long their ends are awaited.

        Each of them ends within the progress timeout; thrice that is what a machine that is too
        busy to say so gets before its memory is given up.
        """
        return WindowLimits(window=self.window, drain_timeout_s=3 * self.progress_timeout_s)

    def engine_settings(self) -> EngineSettings:
        """Return how the backends are started."""
        return EngineSettings(
            token=self.token,
            progress_timeout_s=self.progress_timeout_s,
            first_contact_timeout_s=self.first_contact_timeout_s,
        )
