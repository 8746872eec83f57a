"""One source's part in a load: chunks through a window, each verified, under a lease."""

import threading
from collections.abc import Callable, Iterator

import structlog

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.window import Span, pull
from hfx_transfer.observer import Direction, TransferObserver
from hfx_transfer.weights.board import ChunkBoard
from hfx_transfer.weights.digests import Digester
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.lease_keeper import LeaseKeeper
from hfx_transfer.weights.route import Route
from hfx_transfer.weights.settings import LoadSettings

_log = structlog.get_logger(__name__)

_WAIT_S = 0.05

_HOPELESS = frozenset(
    {
        TransferFault.ABORTED,
        TransferFault.FIRST_CONTACT_TIMEOUT,
        TransferFault.INCOMPATIBLE,
        TransferFault.PROTOCOL,
        TransferFault.STALLED,
        TransferFault.UNAUTHORIZED,
        TransferFault.UNAVAILABLE,
    }
)
"""Faults after which a source is not tried again: it would not help, or takes as long again."""
_PAUSE_AFTER_FAILURE_S = 0.1


class Pulling:
    """Pulls what the board deals out, from one source, in the calling thread.

    Args:
        holding: where the chunks go.
        board: which ones.
        keeper: the lease, not opened yet.
        route: how the source is reached.
        abort: set by whoever wants this to stop; also set here when the lease is lost.
    """

    def __init__(
        self,
        url: str,
        holding: Holding,
        board: ChunkBoard,
        route: Route,
        make_keeper: Callable[[Callable[[], None]], LeaseKeeper],
        settings: LoadSettings,
        *,
        abort: threading.Event,
        clock: Clock,
        observer: TransferObserver,
    ) -> None:
        self._url = url
        self._holding = holding
        self._board = board
        self._route = route
        self._keeper = make_keeper(self._on_news)
        self._settings = settings
        self._abort = abort
        self._clock = clock
        self._observer = observer
        self._digester = Digester()
        self._claimed: set[int] = set()
        self._num_failures = 0
        self._useful_at_s = clock.now_s()
        self.num_bytes = 0
        """Verified bytes that came from this source."""

    def run(self) -> None:
        """Pull until the board is complete or spoilt, then have the generation confirmed.

        Raises:
            TransferError: the source is of no use any more; nothing of it is under way, unless
                the error is `quarantined`.
        """
        try:
            self._keeper.open()
            while not self._board.is_over:
                self._step()
            if self._board.is_complete:
                self._confirm()
        finally:
            # Whatever ended this: others would wait for what is claimed here.
            self._give_back()
            self._route.close()
            self._keeper.close()

    def join(self) -> None:
        """Wait for what `run` has left behind; at once when the source's client was closed."""
        self._keeper.join()

    def _step(self) -> None:
        """Pull what can be had at the moment from one slab, or wait for more."""
        self._raise_if_lost()
        available = self._keeper.available
        slab = self._board.next_slab(available)
        if slab is None:
            self._wait(is_partial=available is not None)
            return
        try:
            peer = self._route.peer(slab)
            pull(
                peer,
                self._spans(slab),
                clock=self._clock,
                on_done=self._verify,
                limits=self._settings.window_limits(),
                abort=self._abort,
            )
        except TransferError as exc:
            if exc.quarantined:
                # Before anything is given back: another source must not write there as well.
                self._board.spoil(exc)
            self._give_back()
            self._judge(exc)
        self._useful_at_s = self._clock.now_s()

    def _give_back(self) -> None:
        self._board.give_back(self._claimed)
        self._claimed.clear()

    def _spans(self, slab: int) -> Iterator[Span]:
        while (index := self._board.claim(slab, self._keeper.available)) is not None:
            self._claimed.add(index)
            chunk = self._holding.grid[index]
            yield Span(
                local=self._holding.slabs[slab],
                local_offset=chunk.offset_bytes,
                remote_offset=chunk.offset_bytes,
                size_bytes=chunk.size_bytes,
            )

    def _verify(self, span: Span, digest: str | None) -> None:
        chunk = self._holding.grid.at(self._holding.slabs.index(span.local), span.local_offset)
        expected = self._holding.identity.digests[chunk.index]
        digest = digest or self._digester.digest(span.local, span.local_offset, span.size_bytes)
        if digest != expected:
            raise TransferError(
                f"chunk {chunk.index} is not what its digest says",
                fault=TransferFault.DIGEST_MISMATCH,
            )
        self._claimed.discard(chunk.index)
        self.num_bytes += chunk.size_bytes
        self._board.mark_verified(chunk.index)
        assert self._route.backend is not None
        self._observer.moved(self._route.backend, Direction.IN, chunk.size_bytes)

    def _judge(self, error: TransferError) -> None:
        """Decide whether a failure is the source's end.

        Raises:
            TransferError: it is.
        """
        if self._route.backend is not None and error.fault is not TransferFault.ABORTED:
            self._observer.chunk_failed(self._route.backend, error.fault)
        if error.quarantined:
            raise error
        self._raise_if_lost()
        self._num_failures += 1
        if error.fault in _HOPELESS or self._num_failures >= self._settings.max_failures:
            raise error
        try:
            self._keeper.check()
        except TransferError as exc:
            raise (exc if exc.fault is TransferFault.GENERATION_CHANGED else error) from exc
        _log.info("pull_retried", source=self._url, fault=error.fault.value, reason=str(error))
        self._route.close()
        self._abort.wait(_PAUSE_AFTER_FAILURE_S)

    def _wait(self, *, is_partial: bool) -> None:
        """Wait for chunks to appear, or to be given back by others."""
        idle_s = self._clock.now_s() - self._useful_at_s
        if is_partial and idle_s > self._settings.idle_timeout_s:
            raise TransferError(
                f"no new chunk for {idle_s:.0f} s; it is itself still loading",
                fault=TransferFault.STALLED,
            )
        self._board.wait(_WAIT_S)

    def _confirm(self) -> None:
        """Make sure that the weights are still current; a source that died proves nothing else."""
        self._raise_if_lost()
        try:
            self._keeper.check()
        except TransferError as exc:
            if exc.fault is TransferFault.GENERATION_CHANGED:
                raise
            _log.info("source_gone_at_the_end", source=self._url, reason=str(exc))

    def _raise_if_lost(self) -> None:
        if self._keeper.error is not None:
            raise self._keeper.error
        if self._abort.is_set():
            raise TransferError("not needed any more", fault=TransferFault.ABORTED)

    def _on_news(self) -> None:
        if self._keeper.error is not None:
            self._abort.set()
        self._board.notify()
