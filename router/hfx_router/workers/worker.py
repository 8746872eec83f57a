"""One worker as this router knows it. Owns its counters; the registry and legs change them."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hfx_transfer.sglang.pairs.facts import PairingFacts

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.breaker import Breaker
from hfx_sgl.policy.health import HealthTracker
from hfx_sgl.types import Role

_UNSAFE_IN_URL = re.compile(r"[^A-Za-z0-9._~:/\[\]%-]")
"""The host ends up in request lines and JSON bodies; `urlsplit` lets even line ends through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthOverrides:
    """What one worker's health checks do differently; None means as configured for the router."""

    interval_s: float | None = None
    timeout_s: float | None = None
    failure_threshold: int | None = None
    success_threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """How a worker is to be registered."""

    url: str
    role: Role = Role.REGULAR
    bootstrap_port: int | None = None
    """Prefill only; None asks the worker for its own at registration."""
    model_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    """The key that the worker wants; sent as a Bearer token."""
    priority: int = 50
    cost: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)
    dp_rank: int | None = None
    """The data-parallel rank this record stands for; None for the whole server."""
    dp_aware: bool = False
    """Register each data-parallel rank of the server as a worker of its own."""
    disable_health_check: bool = False
    health: HealthOverrides = field(default_factory=HealthOverrides)


class Worker:
    """The live record of one worker, or of one data-parallel rank of it."""

    __slots__ = (
        "base_url", "bootstrap_host", "bootstrap_port", "breaker", "health", "host",
        "is_draining", "is_probed", "metadata", "model_id", "num_failed", "num_inflight",
        "num_ok", "num_selected", "pairing", "port", "shown_url", "spec", "worker_id",
    )  # fmt: skip

    def __init__(
        self, worker_id: str, spec: WorkerSpec, breaker: Breaker, health: HealthTracker
    ) -> None:
        self.worker_id = worker_id
        self.spec = spec
        self.host, self.port = split_worker_url(spec.url)
        self.bootstrap_host = f"[{self.host}]" if ":" in self.host else self.host
        self.base_url = f"http://{self.bootstrap_host}:{self.port}"
        """Where the server is; all ranks of one server share it."""
        self.shown_url = spec.url if spec.dp_rank is None else f"{spec.url}@{spec.dp_rank}"
        """What people and metrics see: the URL as given, with `@RANK` for a rank."""
        self.bootstrap_port = spec.bootstrap_port
        self.model_id = spec.model_id or "unknown"
        self.metadata: dict[str, object] = {}
        self.pairing: PairingFacts | None = None
        """What decides with whom it can exchange KV; None: it was not asked."""
        self.breaker = breaker
        self.health = health
        self.is_probed = False
        self.is_draining = False
        self.num_inflight = 0
        self.num_selected = 0
        self.num_ok = 0
        self.num_failed = 0

    @property
    def role(self) -> Role:
        """The pool this worker belongs to."""
        return self.spec.role

    def __repr__(self) -> str:
        return (
            f"<Worker {self.shown_url} {self.role} inflight={self.num_inflight} "
            f"healthy={self.health.is_healthy} breaker={self.breaker.state}>"
        )


def http_base(url: str, port: int | None = None) -> str:
    """Return where the host of an `http://` worker URL answers, at another port if one is given.

    Raises:
        ConfigError: the URL is not one this router can reach.
    """
    host, own_port = split_worker_url(url)
    bracketed = f"[{host}]" if ":" in host else host
    return f"http://{bracketed}:{own_port if port is None else port}"


def split_worker_url(url: str) -> tuple[str, int]:
    """Return host (IPv6 without brackets) and port of an `http://` worker URL.

    Raises:
        ConfigError: the URL is not one this router can reach; the message names it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError(f"worker url: {url!r} is not a URL ({exc})") from exc
    if parts.scheme in ("grpc", "grpcs", "https"):
        raise ConfigError(f"worker url: {parts.scheme}:// workers are not supported yet ({url!r})")
    if parts.scheme != "http" or not parts.hostname or port == 0:
        raise ConfigError(f"worker url: expected http://HOST[:PORT], got {url!r}")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"worker url: only scheme, host and port are allowed, got {url!r}")
    if _UNSAFE_IN_URL.search(url):
        raise ConfigError(f"worker url: characters that no host name has, in {url!r}")
    return parts.hostname, 80 if port is None else port
