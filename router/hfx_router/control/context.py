"""What the handlers of the control plane work with. Built once by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from fastapi import Request

from hfx_router.auth import ApiKeys
from hfx_router.scheduling.journal import Journal
from hfx_router.workers.registration import Registrar
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTimeouts:
    """How long one worker may take to answer, by question."""

    info_s: float = 10.0
    """/v1/models, /server_info, /model_info: they wait behind a long forward pass at worst."""
    loads_s: float = 5.0
    """/v1/loads reads shared memory (3 to 20 ms); later than this the numbers are of no use."""
    metrics_s: float = 10.0
    """Prometheus itself gives up on a scrape after 10 s."""
    health_generate_s: float = 20.0
    """SGLang's own limit for its generation."""
    flush_s: float = 30.0
    """A flush waits until the scheduler is between two batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlContext:
    """The collaborators of the control plane."""

    registry: Registry
    registrar: Registrar
    session: aiohttp.ClientSession
    api_keys: ApiKeys
    unix_time_s: Callable[[], float]
    now_s: Callable[[], float]
    """The router's own clock."""
    is_pd: bool
    is_draining: Callable[[], bool]
    """Whether the process is shutting down and wants no new traffic."""
    is_dp_aware: bool = False
    """Whether workers added over the API are split into their data-parallel ranks."""
    cors_origins: tuple[str, ...] = ()
    """Origins that browsers may call from; empty allows every origin."""
    post_paths: tuple[str, ...] = ()
    """The byte path's endpoints: asked with another method than POST, they answer 405 here."""
    timeouts: AskTimeouts = field(default_factory=AskTimeouts)
    journal: Journal | None = None
    """What the scheduler decided; None where there is none."""
    pairs: PairBook | None = None
    """What is known of the pairs of workers; None where nobody watches them."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The pools that this router needs."""
        return (Role.PREFILL, Role.DECODE) if self.is_pd else (Role.REGULAR,)

    def usable(self) -> list[Worker]:
        """Return the usable workers of all pools that this router needs."""
        return [worker for role in self.roles for worker in self.registry.usable(role)]

    def worker_name(self, worker_id: str) -> str:
        """Return the URL of a worker; its id when it has left."""
        worker = self.registry.get(worker_id)
        return worker_id if worker is None else worker.shown_url


def context_of(request: Request) -> ControlContext:
    """Return the context of the app that got this request."""
    context = request.app.state.context
    assert isinstance(context, ControlContext)
    return context
