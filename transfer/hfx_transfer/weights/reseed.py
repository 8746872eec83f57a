"""Serves what a load has verified while it still goes on."""

from collections.abc import Callable

import structlog

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError
from hfx_transfer.observer import TransferObserver
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.seed import Seed
from hfx_transfer.weights.settings import SeedSettings

_log = structlog.get_logger(__name__)


class Reseeder:
    """Has a seed for the holding that a load is filling; does nothing without settings.

    That it cannot serve is no reason not to load: the log says so, and the load goes on.

    Args:
        settings: how to serve; None for not at all.
        engines: the load's own; the seed closes them when it is closed.
        clock: for leases.
        observer: counts.
        render_metrics: see `Seed`.
    """

    def __init__(
        self,
        settings: SeedSettings | None,
        engines: EngineSet,
        *,
        clock: Clock,
        observer: TransferObserver,
        render_metrics: Callable[[], bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._clock = clock
        self._observer = observer
        self._render_metrics = render_metrics
        self.seed: Seed | None = None
        """What serves; None when nothing does."""

    def serve(self, holding: Holding) -> None:
        """Serve a holding, complete or not, in place of the one before."""
        if self._settings is None:
            return
        try:
            if self.seed is not None:
                self.seed.replace(holding)
                return
            self.seed = Seed(
                holding,
                self._engines,
                self._settings,
                clock=self._clock,
                observer=self._observer,
                render_metrics=self._render_metrics,
            )
        except TransferError as exc:
            _log.warning("not_reseeding", fault=exc.fault.value, reason=str(exc))

    def discard(self, holding: Holding) -> None:
        """Close a holding that will never be complete, and serve it no longer."""
        if self.seed is not None:
            self.seed.withdraw(0.0)
        holding.close()

    def close(self) -> None:
        """Stop serving."""
        if self.seed is not None:
            self.seed.close()
