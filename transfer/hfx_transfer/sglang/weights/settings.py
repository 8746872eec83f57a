"""Limits of a start from a peer. Each says where it comes from."""

from dataclasses import dataclass, field

from hfx_sgl.policy.bounds import at_least, check, more_than
from hfx_sgl.policy.transfer.config import SourceConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneSettings:
    """How long to wait for whom. All in seconds.

    Raises:
        ConfigError: one of them is out of bounds; the problem names it.
    """

    probe_timeout_s: float = 5.0
    """For one answer of a candidate. `/server_info` asks its scheduler, which answers between two
    steps: a long prefill step takes about one second."""
    contact_timeout_s: float = 15.0
    """For Mooncake's first contact, made by a process that may be killed: a peer that accepts and
    stays silent would hold it for 60 s. Starting that process takes up to 5 s on a busy machine."""
    start_timeout_s: float = 600.0
    """For one server to start from a peer. As long as from disk: engines of large models compile
    and capture for minutes after their weights are there."""
    silence_timeout_s: float = 15.0
    """How long a source may leave questions unanswered while a server starts from it. SGLang's
    loader asks it without any limit of its own, so a source that hangs would hold the new server
    until `start_timeout_s`; three times `probe_timeout_s` is more than a long step."""
    checksum_timeout_s: float = 120.0
    """For a server to digest its weights: SGLang's digest takes 1.4 GB a second on one CPU core,
    accelerators hundreds."""
    max_sources: int = 2
    """How many sources one server tries before it reads from disk. A second one saves the reading
    when a source goes away; if that fails too, something else is wrong."""
    engine_start_s: float = 20.0
    """What it costs a server to wait for another one to be started before it can begin, for the
    plan that weighs chains against crowds: importing and initialising take tens of seconds."""
    min_bytes_per_s: float = 100e6
    """Below it Mooncake gives up on a rank's weights: 1 Gbit/s, less a fifth for other traffic."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """How load, role and locality weigh in the choice."""

    def __post_init__(self) -> None:
        check(
            more_than("probe_timeout_s", self.probe_timeout_s, 0),
            more_than("contact_timeout_s", self.contact_timeout_s, 0),
            more_than("start_timeout_s", self.start_timeout_s, 0),
            more_than("silence_timeout_s", self.silence_timeout_s, 0),
            more_than("checksum_timeout_s", self.checksum_timeout_s, 0),
            at_least("max_sources", self.max_sources, 1),
            at_least("engine_start_s", self.engine_start_s, 0),
            more_than("min_bytes_per_s", self.min_bytes_per_s, 0),
        )
