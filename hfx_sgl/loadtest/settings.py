"""What a load test does, as its parts see it."""

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from hfx_sgl.errors import ConfigError


class Endpoint(StrEnum):
    """Where requests go; the value is the path."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    GENERATE = "/generate"


class OutputLengths(StrEnum):
    """How an engine is made to produce as many tokens as the workload plans."""

    EMULATED = "emulated"
    """A field of the body tells emulated workers; the limit leaves the planned room above it."""
    IGNORE_EOS = "ignore_eos"
    """The limit is the planned length, and the engine goes on until it."""
    NATURAL = "natural"
    """Not at all: the model ends where it ends."""


class SloHints(StrEnum):
    """Which promises a request carries to the server. All are kept account of either way."""

    ALL = "all"
    BOUNDS = "bounds"
    CLASS = "class"
    NONE = "none"


class TokenCount(StrEnum):
    """Where the number of output tokens comes from."""

    USAGE = "usage"
    """The server's own count; events where it gives none."""
    EVENTS = "events"
    """Events with text, one token each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server under test."""

    base_url: str
    """Scheme, host and port; the path in front of the endpoint's, if any."""
    endpoint: Endpoint
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request."""

    @property
    def url(self) -> SplitResult:
        """Return the parsed base URL."""
        return urlsplit(self.base_url)

    @property
    def path(self) -> str:
        """Return the path that requests are sent to."""
        return self.url.path.rstrip("/") + self.endpoint

    @property
    def host(self) -> str:
        """Return the host to connect to."""
        return self.url.hostname or ""

    @property
    def port(self) -> int:
        """Return the port to connect to."""
        return self.url.port or (443 if self.is_tls else 80)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.scheme == "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """How requests are sent and measured. Durations are in seconds."""

    target: Target
    output_lengths: OutputLengths = OutputLengths.EMULATED
    slo_hints: SloHints = SloHints.ALL
    token_count: TokenCount = TokenCount.USAGE
    max_concurrency: int | None = None
    """None: whatever is due is sent, which is what makes the test open-loop."""
    request_timeout_s: float = 600.0
    drain_timeout_s: float = 300.0
    """How long answers may take after the last request was sent."""
    max_send_error_s: float = 0.05
    """Bound on the 99th percentile of the time between scheduled and actual sending."""
    lead_s: float = 0.25
    """How long before its time a request is written out and its connection opened."""
    keeps_itls: bool = False
    """Whether each record holds the times between its tokens."""


def check_base_url(base_url: str) -> str:
    """Return the URL without a slash at its end.

    Raises:
        ConfigError: it is not an http or https URL with a host.
    """
    try:
        url = urlsplit(base_url)
        is_usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError as exc:
        raise ConfigError(f"base_url: {base_url!r}: {exc}") from exc
    if not is_usable or url.query or url.fragment or url.username:
        raise ConfigError(f"base_url: {base_url!r} is not like http://127.0.0.1:30000")
    return base_url.rstrip("/")
