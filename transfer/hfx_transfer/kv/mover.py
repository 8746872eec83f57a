"""Moves made-up KV of stated sizes between processes: for emulated workers that want real bytes.

Both sides of a worker share one pool. What it holds is made up; that it arrives where and as it
was sent is checked like any other KV. All the work happens in one thread of the mover's own, so
its methods return at once and its callbacks come from other threads.
"""

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from hfx_sgl.errors import ConfigError, TransferError
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend, TransferEngine
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.kv.incoming import Arrival, IncomingKv
from hfx_transfer.kv.layout import KvDtype, KvLayout, Plane
from hfx_transfer.kv.offer import decode_offer
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pages import PageAllocator, Reservation
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver import KvReceiver
from hfx_transfer.kv.runs import layer_spans, slot_runs
from hfx_transfer.kv.sender import KvSender
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.metrics import TransferMetrics

NUM_LAYERS = 4
"""Enough for pages to go layer by layer; the size of a token is what counts."""
_PLANES = NUM_LAYERS * len(Plane)
_PATTERN_BYTES = 4096
_SETTLE_S = 2.0
"""For what is under way when a mover closes; a healthy peer takes milliseconds."""

OnEnd = Callable[[str | None], None]
"""Told once how a hand-off ended: None, or what was wrong."""


def open_mover(
    *,
    backend: str,
    host: str,
    token: str | None,
    bytes_per_token: int,
    page_tokens: int,
    pool_bytes: int,
) -> "PagedMover":
    """Start a mover; the entry point of group `hfx_sgl.kv_movers`.

    Args:
        backend: one of Backend that can write.
        host: where it listens.
        token: what both sides must know; None on loopback only.
        bytes_per_token: over all layers; a multiple of 8.
        page_tokens: tokens in a page.
        pool_bytes: what the pool may take; rounded down to whole pages.

    Raises:
        ConfigError: a value is out of range.
        TransferError: the backend cannot run here.
    """
    if bytes_per_token < _PLANES or bytes_per_token % _PLANES:
        raise ConfigError(
            f"kv_bytes_per_token: must be a multiple of {_PLANES}, for keys and values of "
            f"{NUM_LAYERS} layers ({bytes_per_token})"
        )
    num_pages = pool_bytes // (bytes_per_token * page_tokens)
    if num_pages < 1:
        raise ConfigError(
            f"kv_pool_bytes: must hold a page of {page_tokens} tokens of {bytes_per_token} bytes "
            f"({pool_bytes})"
        )
    layout = KvLayout(
        num_layers=NUM_LAYERS,
        page_tokens=page_tokens,
        num_kv_heads=1,
        head_dim=bytes_per_token // _PLANES,
        dtype=KvDtype.UINT8,
        num_pages=num_pages,
    )
    engine = open_engine(Backend(backend), EngineSettings(listen_host=host, token=token))
    return PagedMover(engine, layout, HandoffSettings(listen_host=host, token=token))


class PagedMover:
    """The KV of one worker. Takes over the engine.

    Prompts wait in one line for pages, of either side.
    """

    def __init__(self, engine: TransferEngine, layout: KvLayout, settings: HandoffSettings) -> None:
        self._engine = engine
        self._metrics = TransferMetrics()
        make_slab = SharedSlab if engine.backend is Backend.SHM else HostSlab
        self._pool = KvPool(layout, make_slab, engine)
        self.allocator = PageAllocator(layout.num_pages, on_release=self._serve_line_soon)
        self.receiver = KvReceiver(
            self._pool, self.allocator, settings=settings, observer=self._metrics
        )
        self.sender = KvSender(self._pool, settings=settings, observer=self._metrics)
        self._line: deque[Callable[[], bool]] = deque()
        """Each returns whether it has got its pages, or does not want them any more."""
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="kv-mover", daemon=True)
        self._thread.start()

    @property
    def pool(self) -> KvPool:
        """The pages of both sides."""
        return self._pool

    def expect(
        self, num_tokens: int, *, on_offer: Callable[[str], None], on_end: OnEnd
    ) -> "ExpectedKv":
        """Wait for pages, then for a prompt's KV in them.

        Args:
            num_tokens: of the prompt.
            on_offer: told what the sending side needs to know, once there are pages.
            on_end: told when the KV is here and verified, or that it does not come.
        """
        expected = ExpectedKv(self, num_tokens, on_offer, on_end)
        self.later(partial(self.wait_in_line, num_tokens, expected.take_pages, on_end))
        return expected

    def send(self, offer: str, num_tokens: int, *, on_end: OnEnd) -> "SentKv":
        """Take up an offer; the KV is sent by `push`.

        Args:
            offer: of the receiving side.
            num_tokens: of the prompt.
            on_end: told when the other side has it, verified, or that it does not get it.
        """
        sent = SentKv(self, num_tokens, on_end)
        self.later(partial(sent.begin, offer))
        return sent

    def metrics(self) -> bytes:
        """Return what was moved, as Prometheus text."""
        return self._metrics.render()

    def close(self) -> None:
        """Give up what is not finished, and stop. Blocks for some seconds at most."""
        self._work.put(None)
        self._thread.join()
        is_settled = self.sender.close(within_s=_SETTLE_S)
        self.receiver.close(within_s=_SETTLE_S)
        self._pool.close()
        if is_settled:
            self._engine.close()

    def later(self, work: Callable[[], None]) -> None:
        """Do something in the mover's thread; nothing happens once it is closed."""
        self._work.put(work)

    def wait_in_line(self, num_tokens: int, take: Callable[[], bool], on_end: OnEnd) -> None:
        """Have `take` called until it says that it is served. To be called in the thread."""
        layout = self._pool.layout
        if layout.num_pages_for(num_tokens) > layout.num_pages:
            token_bytes = layout.handoff_token_bytes
            on_end(
                f"the KV of {num_tokens} tokens takes {num_tokens * token_bytes} bytes; the pool "
                f"has room for {layout.num_pages * layout.page_tokens} tokens"
            )
            return
        self._line.append(take)
        self._serve_line()

    def _serve_line_soon(self) -> None:
        self.later(self._serve_line)

    def _serve_line(self) -> None:
        while self._line and self._line[0]():
            self._line.popleft()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class ExpectedKv:
    """KV that a worker waits for, then keeps until `cancel`."""

    def __init__(
        self,
        mover: PagedMover,
        num_tokens: int,
        on_offer: Callable[[str], None],
        on_end: OnEnd,
    ) -> None:
        self._mover = mover
        self._num_tokens = num_tokens
        self._on_offer = on_offer
        self._on_end = on_end
        self._is_cancelled = False
        self._incoming: IncomingKv | None = None

    def cancel(self) -> None:
        """Nobody waits for the KV, or needs it any more; twice is once."""
        self._mover.later(self._cancel)

    def take_pages(self) -> bool:
        """Open the hand-off if there are pages; whether this has had its turn."""
        if self._is_cancelled:
            return True
        incoming = self._mover.receiver.open(self._num_tokens)
        if incoming is None:
            return False
        self._incoming = incoming
        incoming.arrival.add_done_callback(self._ended)
        self._on_offer(incoming.offer.encode())
        return True

    def _ended(self, arrival: Future[Arrival]) -> None:
        error = arrival.exception()
        self._on_end(None if error is None else str(error))

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._incoming is not None:
            self._incoming.release()


class SentKv:
    """KV that a worker sends once it is computed."""

    def __init__(self, mover: PagedMover, num_tokens: int, on_end: OnEnd) -> None:
        self._mover = mover
        self._num_tokens = num_tokens
        self._on_end = on_end
        self._is_cancelled = False
        self._handoff: OutgoingKv | None = None

    def push(self) -> None:
        """The prompt is computed: send its KV."""
        self._mover.later(self._push)

    def cancel(self) -> None:
        """Nobody is to have the KV; nothing happens when it is there already. Twice is once."""
        self._mover.later(self._cancel)

    def begin(self, offer: str) -> None:
        """Ask the receiver where to write."""
        try:
            self._handoff = self._mover.sender.begin(decode_offer(offer))
        except TransferError as error:
            self._on_end(str(error))
            return
        self._handoff.accepted.add_done_callback(self._ended)

    def _push(self) -> None:
        if self._handoff is not None:
            self._mover.wait_in_line(self._num_tokens, self._take_pages, self._on_end)

    def _take_pages(self) -> bool:
        handoff = self._handoff
        if self._is_cancelled or handoff is None or handoff.accepted.done():
            return True
        layout = self._mover.pool.layout
        reservation = self._mover.allocator.reserve(layout.num_pages_for(self._num_tokens))
        if reservation is None:
            return False
        for layer in range(layout.num_layers):
            _make_up(self._mover.pool, reservation.pages, layer, self._num_tokens, handoff)
            handoff.push_layer(layer, reservation.pages, num_tokens=self._num_tokens)
        handoff.finish(self._num_tokens)
        handoff.settled.add_done_callback(partial(_release, reservation))
        return True

    def _ended(self, accepted: Future[None]) -> None:
        error = accepted.exception()
        self._on_end(None if error is None else str(error))

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._handoff is not None:
            self._handoff.abort("the prefill side gave up")


def _make_up(
    pool: KvPool, pages: tuple[int, ...], layer: int, num_tokens: int, handoff: OutgoingKv
) -> None:
    """Write KV that no other hand-off and no other layer has."""
    name = f"{handoff.offer.handoff_id}/{layer}"
    pattern = hashlib.shake_128(name.encode()).digest(_PATTERN_BYTES)
    runs = slot_runs(pool.layout.page_tokens, pages, 0, num_tokens)
    for span in layer_spans(pool.layout, layer, runs):
        view = pool.slabs[span.slab].view()
        end_bytes = span.offset_bytes + span.size_bytes
        repeated = pattern * -(-span.size_bytes // _PATTERN_BYTES)
        view[span.offset_bytes : end_bytes] = memoryview(repeated)[: span.size_bytes]


def _release(reservation: Reservation, settled: Future[None]) -> None:
    # What may still be read by a transfer is kept for as long as the process lives.
    if settled.exception() is None:
        reservation.release()
