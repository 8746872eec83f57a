"""Gets one generation of weights from several sources, the disk being the last.

What a load returns is complete and of one generation, or it raises: nothing half-loaded is ever
handed out. When it returns or raises, no transfer is under way into memory that was given back;
memory into which one may still write (a quarantine) stays allocated and is never reused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.observer import TransferKind, TransferObserver
from hfx_transfer.weights.attempt import Attempt, Hooks, StartOver, describe
from hfx_transfer.weights.chunks import DEFAULT_CHUNK_BYTES, ChunkGrid
from hfx_transfer.weights.control_client import ControlClients
from hfx_transfer.weights.digests import digest_chunks
from hfx_transfer.weights.disk import read
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.holding import Holding, hold
from hfx_transfer.weights.layout import lay_out
from hfx_transfer.weights.manifest import Manifest
from hfx_transfer.weights.progress import SourceReport
from hfx_transfer.weights.safetensors_file import StoredTensor, find_tensors
from hfx_transfer.weights.settings import LoadSettings
from hfx_transfer.weights.source import Surroundings

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Weights that were loaded."""

    holding: Holding
    is_verified: bool
    """Whether each chunk was compared with what a source promised; False when the disk alone was
    there, or when memory is shared with its source."""
    sources: tuple[SourceReport, ...]


class Loader:
    """Runs one load in the calling thread.

    Args:
        urls: the sources, in order of preference.
        fallback: a safetensors file or a folder of them; None for no disk.
        settings: how to pull.
        engines: by which backends; the caller closes them.
        hooks: where the weights go.
        clock: for all limits.
        observer: counts.
    """

    def __init__(
        self,
        urls: Sequence[str],
        fallback: Path | None,
        settings: LoadSettings,
        engines: EngineSet,
        hooks: Hooks,
        *,
        clock: Clock,
        observer: TransferObserver,
    ) -> None:
        self._urls = list(dict.fromkeys(urls))
        self._fallback = fallback
        self._settings = settings
        self._hooks = hooks
        self._clock = clock
        self._observer = observer
        self._quarantined: list[SourceReport] = []
        """Sources that are not asked again: their transfers have not ended."""
        self._known: Manifest | None = None
        """What they had; None when nobody is quarantined, or the weights changed since."""
        self._shared = Surroundings(
            engines=engines, settings=settings, clock=clock, observer=observer
        )

    def run(self) -> Outcome:
        """Load.

        Raises:
            TransferError: no source was left (no_source_left; the message lists every source and
                why), the weights are not the ones wanted (incompatible), or they kept changing
                (generation_changed).
        """
        began_at_s = self._clock.now_s()
        fault: TransferFault | None = TransferFault.ABORTED
        try:
            outcome = self._run()
            fault = None
            return outcome
        except TransferError as exc:
            fault = exc.fault
            raise
        finally:
            duration_s = self._clock.now_s() - began_at_s
            self._observer.transfer_ended(TransferKind.WEIGHTS, fault, duration_s)

    def _run(self) -> Outcome:
        num_changes = 0
        while True:
            try:
                return self._attempt()
            except StartOver as again:
                if again.manifest is None:
                    num_changes += 1
                    if num_changes > self._settings.max_restarts:
                        raise again.error from again
                self._known = again.manifest
                _log.warning("load_starts_over", reason=str(again.error))

    def _attempt(self) -> Outcome:
        excluded = {report.url for report in self._quarantined}
        urls = [url for url in self._urls if url not in excluded]
        with ControlClients(token=self._settings.token) as clients:
            attempt = Attempt(urls, clients, self._shared, self._hooks)
            try:
                holding = attempt.run()
            finally:
                attempt.close()
                reports = attempt.reports()
                self._quarantined += [report for report in reports if report.is_quarantined]
        sources = (*self._quarantined, *reports)
        if holding is not None and holding.verified.is_complete:
            return Outcome(holding=holding, is_verified=not attempt.is_shared, sources=sources)
        try:
            return self._from_disk(holding, sources)
        except BaseException:
            if holding is not None:
                self._hooks.discard(holding)
            raise

    def _from_disk(self, holding: Holding | None, reports: tuple[SourceReport, ...]) -> Outcome:
        if self._fallback is None:
            raise _no_source_left(reports, "disk: no fallback was given")
        _log.warning(
            "weights_from_disk",
            path=str(self._fallback),
            reason="; ".join(map(str, reports)) or "no source was given",
            verified=holding is not None or self._known is not None,
        )
        try:
            stored = find_tensors(self._fallback)
            if holding is not None:
                self._fill_from_disk(holding, stored)
            elif self._known is not None:
                holding = self._again_from_disk(self._known, stored)
            else:
                holding = self._unverified_from_disk(stored)
                return Outcome(holding=holding, is_verified=False, sources=reports)
        except TransferError as exc:
            raise _no_source_left(reports, f"disk: {describe(exc)}") from exc
        return Outcome(holding=holding, is_verified=True, sources=reports)

    def _again_from_disk(self, manifest: Manifest, stored: Mapping[str, StoredTensor]) -> Holding:
        """Read everything, into other memory than the sources that are gone may write to."""
        sizes = manifest.layout.slab_sizes_bytes
        holding = Holding.for_manifest(manifest, self._hooks.allocate(sizes))
        try:
            self._hooks.on_holding(holding)
            self._fill_from_disk(holding, stored)
        except BaseException:
            self._hooks.discard(holding)
            raise
        return holding

    def _unverified_from_disk(self, stored: Mapping[str, StoredTensor]) -> Holding:
        """Read everything; there is no manifest to compare it with."""
        layout = lay_out(tensor.spec for tensor in stored.values())
        self._hooks.check(layout)
        slabs = self._hooks.allocate(layout.slab_sizes_bytes)
        try:
            grid = ChunkGrid(layout.slab_sizes_bytes, DEFAULT_CHUNK_BYTES)
            read(layout, slabs, grid, stored, clock=self._clock)
            holding = hold(layout, slabs, rank=self._settings.rank, is_frozen=False)
            wanted = self._settings.model_hash
            if wanted not in (None, holding.identity.model_hash):
                raise TransferError(
                    f"it holds {holding.identity.model_hash}, wanted is {wanted}",
                    fault=TransferFault.INCOMPATIBLE,
                )
        except BaseException:
            for slab in slabs:
                slab.close()
            raise
        self._hooks.on_holding(holding)
        return holding

    def _fill_from_disk(self, holding: Holding, stored: Mapping[str, StoredTensor]) -> None:
        """Read what is missing and compare it with what the manifest promised."""
        missing = [holding.grid[index] for index in holding.verified.missing()]
        read(holding.layout, holding.slabs, missing, stored, clock=self._clock)
        found = digest_chunks(holding.slabs, missing)
        for chunk, digest in zip(missing, found, strict=True):
            if digest != holding.identity.digests[chunk.index]:
                raise TransferError(
                    f"chunk {chunk.index} is not what the sources promised: the files hold other "
                    "weights",
                    fault=TransferFault.DIGEST_MISMATCH,
                )
        for chunk in missing:
            holding.verified.add(chunk.index)


def _no_source_left(reports: Sequence[SourceReport], disk: str) -> TransferError:
    lines = [*map(str, reports), disk]
    return TransferError(
        "no source is left:\n" + "\n".join(f"  {line}" for line in lines),
        fault=TransferFault.NO_SOURCE_LEFT,
    )
