"""One try to get one generation of weights: asks all sources, picks what to get, deals chunks."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.slab import Slab
from hfx_transfer.weights.board import ChunkBoard
from hfx_transfer.weights.control_client import ControlClients
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.layout import Layout
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.progress import LoadProgress, SourceReport
from hfx_transfer.weights.sharing import map_weights
from hfx_transfer.weights.source import Source, Surroundings
from hfx_transfer.weights.source_state import FINAL, SourceState

_log = structlog.get_logger(__name__)

_TICK_S = 0.1
"""How often progress is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the caller of a load takes part in."""

    check: Callable[[Layout], None]
    """Raises TransferError (incompatible) when the tensors are not those that are wanted."""
    allocate: Callable[[Sequence[int]], list[Slab]]
    """Makes slabs of these sizes."""
    on_holding: Callable[[Holding], None]
    """Told of each holding before anything is pulled into it, to serve it meanwhile."""
    discard: Callable[[Holding], None]
    """Told that a holding will never be complete; closes it."""
    on_progress: Callable[[LoadProgress], None]
    """Called several times a second."""


class StartOver(Exception):
    """This try cannot succeed, another one may.

    Args:
        error: why.
        manifest: what was being pulled, when that is still what is wanted; None when the weights
            changed.
    """

    def __init__(self, error: TransferError, *, manifest: Manifest | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.manifest = manifest


class Attempt:
    """Runs once; `close` ends its threads."""

    def __init__(
        self,
        urls: Sequence[str],
        clients: ControlClients,
        shared: Surroundings,
        hooks: Hooks,
    ) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._clock = shared.clock
        self._hooks = hooks
        self._clients = clients
        self._news = threading.Event()
        self._sources = [
            Source(
                clients.client(
                    url,
                    first_contact_timeout_s=self._settings.first_contact_timeout_s,
                    timeout_s=self._settings.control_timeout_s,
                ),
                shared,
                self._news.set,
            )
            for url in urls
        ]
        self.is_shared = False
        """Whether the slabs are a source's memory, mapped."""

    def run(self) -> Holding | None:
        """Return what could be had, complete or not; None when no source told what it holds.

        Raises:
            StartOver: the weights changed meanwhile, or bytes may still arrive in the slabs.
            TransferError: the weights are not the ones that are wanted (incompatible).
        """
        for source in self._sources:
            source.start()
        reference = self._reference()
        if reference is None:
            return None
        assert reference.manifest is not None
        self._hooks.check(reference.manifest.layout)
        if self._settings.share and (mapped := self._map()) is not None:
            return mapped
        return self._pull(reference.manifest)

    def close(self) -> None:
        """End all threads. Nothing of this attempt is under way afterwards."""
        for source in self._sources:
            source.stop()
        for source in self._sources:
            source.wait_until_final()
        # Ends the calls that have not been answered yet.
        self._clients.close()
        for source in self._sources:
            source.join()

    def reports(self) -> list[SourceReport]:
        """Return what became of each source."""
        return [
            SourceReport(
                url=source.url,
                state=source.state,
                transport=source.transport,
                num_bytes=source.num_bytes,
                reason=None if source.error is None else describe(source.error),
                is_quarantined=source.error is not None and source.error.quarantined,
            )
            for source in self._sources
        ]

    def _reference(self) -> Source | None:
        """Wait for manifests; return the first source that has the newest weights."""
        answered_at_s: float | None = None
        while True:
            self._news.clear()
            self._refuse_unwanted()
            ready = self._in_state(SourceState.READY)
            is_pending = bool(self._in_state(SourceState.CONTACTING))
            now_s = self._clock.now_s()
            if ready:
                answered_at_s = now_s if answered_at_s is None else answered_at_s
                if not is_pending or now_s - answered_at_s >= self._settings.straggler_wait_s:
                    return max(ready, key=lambda source: _manifest(source).generation)
            elif not is_pending:
                return None
            self._news.wait(self._settings.straggler_wait_s or _TICK_S)

    def _refuse_unwanted(self) -> None:
        """Leave out what holds another model or another part of it than asked for."""
        wanted_hash, wanted_rank = self._settings.model_hash, self._settings.rank
        for source in self._in_state(SourceState.READY):
            manifest = _manifest(source)
            if wanted_hash not in (None, manifest.model_hash):
                source.refuse(_other(f"it holds {manifest.model_hash}, wanted is {wanted_hash}"))
            elif wanted_rank not in (None, manifest.rank):
                source.refuse(_other(f"it holds {manifest.rank}, wanted is {wanted_rank}"))

    def _refuse_others(self, reference: Manifest) -> None:
        """Leave out what holds other weights than those that are pulled."""
        self._refuse_unwanted()
        for source in self._in_state(SourceState.READY):
            manifest = _manifest(source)
            if manifest.generation != reference.generation:
                found = f"generation {manifest.generation}, {reference.generation} is pulled"
            elif manifest.model_hash != reference.model_hash:
                found = f"{manifest.model_hash}, {reference.model_hash} is pulled"
            elif manifest.rank != reference.rank:
                found = f"{manifest.rank}, {reference.rank} is pulled"
            else:
                continue
            source.refuse(_other(f"it holds {found}"))

    def _map(self) -> Holding | None:
        """Map the memory of the first source that allows it; None when none does."""
        for source in self._in_state(SourceState.READY):
            manifest = _manifest(source)
            self._hooks.check(manifest.layout)
            try:
                holding = map_weights(
                    source.client,
                    manifest,
                    self._shared.engines,
                    verify=self._settings.verify_shared,
                )
            except TransferError as exc:
                _log.info("weights_not_shared", source=source.url, reason=str(exc))
                continue
            self.is_shared = True
            self._hooks.on_holding(holding)
            return holding
        return None

    def _pull(self, reference: Manifest) -> Holding:
        sizes = reference.layout.slab_sizes_bytes
        holding = Holding.for_manifest(reference, self._hooks.allocate(sizes))
        try:
            self._hooks.on_holding(holding)
            board = ChunkBoard(holding)
            self._drive(holding, board, reference)
            self._judge(board, reference)
        except BaseException:
            self.close()
            self._hooks.discard(holding)
            raise
        return holding

    def _drive(self, holding: Holding, board: ChunkBoard, reference: Manifest) -> None:
        """Deal chunks until all are there or nobody is left, and all that began has ended."""
        while True:
            self._news.clear()
            self._refuse_others(reference)
            pulling = self._in_state(SourceState.PULLING)
            self._shared.observer.sources(len(pulling) + len(self._in_state(SourceState.READY)))
            if board.is_over:
                if not pulling:
                    return
            elif all(source.state in FINAL for source in self._sources):
                return
            else:
                self._choose(holding, board)
            self._hooks.on_progress(
                LoadProgress(
                    num_bytes=sum(source.num_bytes for source in self._sources),
                    total_bytes=holding.layout.size_bytes,
                    num_sources=len(pulling),
                )
            )
            self._news.wait(_TICK_S)

    def _choose(self, holding: Holding, board: ChunkBoard) -> None:
        """Have as many sources pull as may, in the order of preference."""
        num_free = self._settings.max_active_sources - sum(
            source.state is SourceState.PULLING or source.is_waited_for for source in self._sources
        )
        for source in self._in_state(SourceState.READY)[: max(0, num_free)]:
            source.choose(holding, board)

    def _judge(self, board: ChunkBoard, reference: Manifest) -> None:
        if board.spoilt is not None:
            raise StartOver(board.spoilt, manifest=reference)
        for source in self._sources:
            changed = source.error
            if changed is not None and changed.fault is TransferFault.GENERATION_CHANGED:
                raise StartOver(changed, manifest=None)

    def _in_state(self, state: SourceState) -> list[Source]:
        return [source for source in self._sources if source.state is state]


def describe(error: TransferError) -> str:
    """Return a fault with its message."""
    return f"{error.fault}: {error}"


def _manifest(source: Source) -> Manifest:
    assert source.manifest is not None
    return source.manifest


def _other(what: str) -> TransferError:
    return TransferError(what, fault=TransferFault.INCOMPATIBLE)
