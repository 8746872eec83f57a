"""A seed: weights in memory, reachable by some backends, promised by leases.

New generations take new memory; what the old one takes is given back when its last lease is over.
"""

import threading
from collections.abc import Callable
from typing import Self

import structlog

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.observer import NO_OBSERVER, TransferObserver
from hfx_transfer.weights.control_server import ControlServer
from hfx_transfer.weights.desk import Desk, Published
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.large_pages import LargePages
from hfx_transfer.weights.manifest import Manifest, SlabEntry
from hfx_transfer.weights.settings import SeedSettings

_log = structlog.get_logger(__name__)

_POLL_S = 0.02


class Seed:
    """Serves one generation of weights at a time, until it is closed.

    Args:
        holding: what to serve; the seed closes it. May still be incomplete.
        engines: how receivers reach it.
        settings: where and to whom.
        owns_engines: whether `close` stops the engines, too.
        clock: for the leases; None for the machine's.
        observer: counts leases.
        render_metrics: returns the Prometheus text that the control plane shows at /metrics, to
            whoever has the token; None for no such page.

    Raises:
        TransferError: no backend can offer the weights, or the port is taken (unavailable).
    """

    def __init__(
        self,
        holding: Holding,
        engines: EngineSet,
        settings: SeedSettings,
        *,
        owns_engines: bool = True,
        clock: Clock | None = None,
        observer: TransferObserver = NO_OBSERVER,
        render_metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self._engines = engines
        self._owns_engines = owns_engines
        self._settings = settings
        self._clock = clock or WallClock()
        self._lock = threading.Lock()
        """Held while the generation changes."""
        self._is_closed = False
        self._identity = holding.identity
        """Of what was served last."""
        self._large_pages: LargePages | None = None
        self._desk = Desk(settings.lease, self._clock, observer)
        published = self._publish(holding)
        try:
            self._server = ControlServer(
                self._desk,
                host=settings.host,
                port=settings.port,
                token=settings.token,
                render_metrics=render_metrics,
            )
        except TransferError:
            self._unregister(published)
            raise
        self._show(published)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where receivers ask."""
        host = self._settings.advertise_host or self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._server.port}"

    @property
    def manifest(self) -> Manifest:
        """What is served.

        Raises:
            TransferError: nothing at the moment (unavailable).
        """
        return self._desk.current().manifest

    @property
    def holding(self) -> Holding:
        """What is served, in memory. Raises what `manifest` does."""
        return self._desk.current().holding

    @property
    def num_leases(self) -> int:
        """How many receivers rely on the bytes, of any generation."""
        return self._desk.num_leases()

    def replace(self, holding: Holding) -> None:
        """Serve newer weights. Leases on the old ones are asked back, not waited for.

        The same weights in other memory are as good as newer ones.

        Raises:
            ValueError: the generation is not above the one that was served last.
            TransferError: no backend can offer the weights; the old ones stay.
        """
        new = holding.identity
        with self._lock:
            last = self._identity
            is_same = (new.generation, new.model_hash) == (last.generation, last.model_hash)
            if new.generation <= last.generation and not is_same:
                raise ValueError(
                    f"generation {new.generation} is not above {last.generation}, served last"
                )
            published = self._publish(holding)
            self._identity = new
            self._retire()
            self._show(published)

    def withdraw(self, timeout_s: float | None = None) -> bool:
        """Serve nothing, and wait until no receiver relies on the bytes any more.

        Afterwards they may be changed in place, and served again as a new generation.

        Args:
            timeout_s: how long to wait; None for as long as a lease runs, which always suffices.

        Returns:
            Whether no lease is left.
        """
        with self._lock:
            self._retire()
        limit_s = self._settings.lease.duration_s + 1.0 if timeout_s is None else timeout_s
        end_s = self._clock.now_s() + limit_s
        pause = threading.Event()
        while True:
            self._desk.sweep()
            if not self.num_leases:
                return True
            if self._clock.now_s() >= end_s:
                return False
            pause.wait(_POLL_S)

    def close(self) -> None:
        """Stop serving; receivers in the middle of a pull turn to other sources."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if not self.withdraw(self._settings.close_timeout_s):
            _log.warning("seed_closed_under_leases", num_leases=self.num_leases)
        self._server.close()
        if self._owns_engines:
            self._engines.close()
        self._desk.end_all()

    def _publish(self, holding: Holding) -> Published:
        regions: list[list[RegionHandle]] = [[] for _ in holding.slabs]
        refusals = []
        for backend in self._settings.backends:
            try:
                handles = self._engines.register(backend, holding.slabs)
            except TransferError as exc:
                refusals.append(f"{backend}: {exc}")
                _log.info("backend_not_offered", backend=backend.value, reason=str(exc))
                continue
            for of_slab, handle in zip(regions, handles, strict=True):
                of_slab.append(handle)
        if len(refusals) == len(self._settings.backends):
            raise TransferError(
                f"no backend can offer the weights ({'; '.join(refusals)})",
                fault=TransferFault.UNAVAILABLE,
            )
        return Published(holding=holding, manifest=_manifest_of(holding, regions))

    def _unregister(self, published: Published) -> None:
        slabs = published.manifest.slabs
        for backend in {region.backend for slab in slabs for region in slab.regions}:
            self._engines.unregister(backend, published.holding.slabs)

    def _show(self, published: Published) -> None:
        self._desk.show(published)
        published.holding.verified.subscribe(self._server.notify)
        self._server.notify()
        # What is not complete yet has pages that nobody has touched, which cannot be moved.
        if Backend.SHM in self._settings.backends and published.holding.verified.is_complete:
            self._large_pages = LargePages(published.holding, self._clock)

    def _retire(self) -> None:
        """Ask the leases on what is served back; its memory goes with the last of them."""
        if self._large_pages is not None:
            self._large_pages.close()
            self._large_pages = None
        retired = self._desk.retire()
        if retired is not None:
            self._unregister(retired)
            retired.holding.close()
            self._server.notify()


def _manifest_of(holding: Holding, regions: list[list[RegionHandle]]) -> Manifest:
    identity = holding.identity
    return Manifest(
        model_hash=identity.model_hash,
        generation=identity.generation,
        rank=identity.rank,
        chunk_bytes=identity.chunk_bytes,
        tensors=holding.layout.tensors,
        slabs=tuple(
            SlabEntry(size_bytes=size, regions=tuple(of_slab), is_frozen=holding.is_frozen)
            for size, of_slab in zip(holding.layout.slab_sizes_bytes, regions, strict=True)
        ),
        digests=identity.digests,
    )
