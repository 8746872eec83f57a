"""Writes chunks of KV to one receiver, hand-off by hand-off, in a thread of its own.

Nothing of a hand-off is under way any more when its end is reported, unless that says otherwise.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError
from hfx_transfer.engine.protocol import Peer, RegionHandle
from hfx_transfer.engine.window import Span, push
from hfx_transfer.kv.coverage import Piece
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.runs import SlotRun, layer_copies, slot_copies, slot_runs
from hfx_transfer.kv.target import Target
from hfx_transfer.observer import Direction, TransferObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some tokens of one layer, ready to be written."""

    layer: int
    first_token: int
    num_tokens: int
    from_runs: tuple[SlotRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEnd:
    """How the writing of one hand-off ended."""

    pieces: tuple[Piece, ...]
    error: TransferError | None = None
    """None: all was written, or somebody wanted it to end."""
    is_clean: bool = True
    """Whether each transfer that was begun ended well."""
    is_final: bool = True
    """Whether each transfer has ended at all."""


class Flow:
    """The chunks of one hand-off on their way to a pump. One thread adds, the pump takes."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._is_complete = False
        self.aborted = threading.Event()
        self.wake: Callable[[], None] | None = None
        """Tells the pump that serves it; None until one does."""

    @property
    def is_ready(self) -> bool:
        """Whether there is something to do for it."""
        return self.aborted.is_set() or self._is_complete or len(self._chunks) > 0

    def add(self, chunk: Chunk) -> None:
        """Have a chunk written when its turn comes."""
        self._chunks.append(chunk)
        self._tell()

    def complete(self) -> None:
        """No more chunks come."""
        self._is_complete = True
        self._tell()

    def abort(self) -> None:
        """Begin nothing more."""
        self.aborted.set()
        self._tell()

    def take(self) -> tuple[list[Chunk], bool]:
        """Return the chunks there are, and whether no more come."""
        # In this order: what is said to be complete has all its chunks in the queue.
        is_complete = self._is_complete
        return [self._chunks.popleft() for _ in range(len(self._chunks))], is_complete

    def _tell(self) -> None:
        if self.wake is not None:
            self.wake()


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    flow: Flow
    target: Target
    on_end: Callable[[FlowEnd], None]
    pieces: list[Piece] = field(default_factory=list)


class Pump:
    """Serves the flows to one receiver in turn, from construction to `stop`."""

    def __init__(
        self,
        pool: KvPool,
        *,
        first_contact_timeout_s: float,
        clock: Clock,
        observer: TransferObserver,
    ) -> None:
        self._pool = pool
        self._first_contact_timeout_s = first_contact_timeout_s
        self._clock = clock
        self._observer = observer
        self._peers: dict[RegionHandle, Peer] = {}
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="kv-pump", daemon=True)
        self._thread.start()

    def begin(self, flow: Flow, target: Target, on_end: Callable[[FlowEnd], None]) -> None:
        """The receiver has said where to write.

        Args:
            on_end: called once, in the pump's thread.
        """
        with self._changed:
            self._jobs.append(_Job(flow=flow, target=target, on_end=on_end))
        flow.wake = self._wake
        self._wake()

    def stop(self) -> None:
        """End the thread, once what is under way has ended. The flows have ended."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            end = self._serve(job)
            if end is None:
                continue
            with self._changed:
                self._jobs.remove(job)
            job.on_end(end)
        for peer in self._peers.values():
            peer.close()

    def _next(self) -> _Job | None:
        """Wait for a flow with something to do; None when stopped."""
        with self._changed:
            while not self._is_stopped:
                for _ in range(len(self._jobs)):
                    job = self._jobs[0]
                    self._jobs.rotate(-1)
                    if job.flow.is_ready:
                        return job
                self._changed.wait()
        return None

    def _serve(self, job: _Job) -> FlowEnd | None:
        """Write what a flow has; return how it ended, or None while it goes on."""
        chunks, is_complete = job.flow.take()
        if job.flow.aborted.is_set():
            return FlowEnd(pieces=tuple(job.pieces))
        layout = job.target.layout
        layers_per_slab = layout.num_layers // layout.num_slabs
        for slab, handle in enumerate(job.target.regions):
            part = [chunk for chunk in chunks if chunk.layer // layers_per_slab == slab]
            end = self._write(job, part, handle) if part else None
            if end is not None:
                return end
        return FlowEnd(pieces=tuple(job.pieces)) if is_complete else None

    def _write(self, job: _Job, chunks: Sequence[Chunk], handle: RegionHandle) -> FlowEnd | None:
        """Write chunks that go to one slab; return the end if that fails."""
        try:
            peer = self._reach(handle)
        except TransferError as error:
            return FlowEnd(pieces=tuple(job.pieces), error=error)
        self._pool.synchronize()
        spans = self._spans(job, chunks)
        abort = job.flow.aborted
        try:
            push(peer, spans, clock=self._clock, on_done=self._moved, abort=abort)
        except TransferError as error:
            self._drop(handle)
            if not abort.is_set():
                self._observer.chunk_failed(handle.backend, error.fault)
            return FlowEnd(
                pieces=tuple(job.pieces),
                error=None if abort.is_set() else error,
                is_clean=False,
                is_final=not error.quarantined,
            )
        return None

    def _spans(self, job: _Job, chunks: Iterable[Chunk]) -> Iterator[Span]:
        """Yield what has to be written for some chunks, and take note of them."""
        ours, theirs = self._pool.layout, job.target.layout
        for chunk in chunks:
            digest = self._pool.digest(chunk.layer, chunk.from_runs)
            job.pieces.append(Piece(chunk.layer, chunk.first_token, chunk.num_tokens, digest))
            pages = job.target.pages[chunk.first_token // theirs.page_tokens :]
            to_runs = slot_runs(theirs.page_tokens, pages, chunk.first_token, chunk.num_tokens)
            copies = slot_copies(chunk.from_runs, to_runs)
            for copy in layer_copies(ours, theirs, chunk.layer, copies):
                yield Span(
                    local=self._pool.slabs[copy.from_slab],
                    local_offset=copy.from_offset_bytes,
                    remote_offset=copy.to_offset_bytes,
                    size_bytes=copy.size_bytes,
                )

    def _moved(self, span: Span, _digest: str | None) -> None:
        backend = self._pool.engine.backend
        self._observer.moved(backend, Direction.OUT, span.size_bytes)

    def _reach(self, handle: RegionHandle) -> Peer:
        peer = self._peers.get(handle)
        if peer is None:
            peer = self._peers[handle] = self._pool.engine.connect(
                handle, first_contact_timeout_s=self._first_contact_timeout_s
            )
        return peer

    def _drop(self, handle: RegionHandle) -> None:
        """Let go of a peer that failed: the next hand-off reaches for it anew."""
        peer = self._peers.pop(handle, None)
        if peer is not None:
            peer.close()
