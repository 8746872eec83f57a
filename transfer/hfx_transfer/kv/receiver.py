"""The decode side: opens hand-offs, tells senders where to write, and says when KV is there."""

import asyncio
import math
import threading
from collections import Counter

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.background import BackgroundLoop
from hfx_transfer.kv.counts import count_end
from hfx_transfer.kv.incoming import IncomingKv
from hfx_transfer.kv.messages import Stop
from hfx_transfer.kv.pages import PageAllocator
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.receiver_links import ReceiverLinks
from hfx_transfer.kv.receiver_states import IncomingState
from hfx_transfer.kv.reception import Reception
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.observer import NO_OBSERVER, TransferObserver

_TICK_S = 0.05
"""How exactly deadlines and holds are kept."""
_CLOSE_POLL_S = 0.01


class KvReceiver:
    """Takes KV from any number of senders into one pool. Usable from any thread.

    Args:
        pool: outlives the receiver.
        allocator: of the pool's pages; the engine may take pages of its own from the same one.
        observer: counts bytes that have arrived, and hand-offs from `open` to `arrival`.

    Raises:
        OSError: it cannot listen.
    """

    def __init__(
        self,
        pool: KvPool,
        allocator: PageAllocator,
        *,
        settings: HandoffSettings | None = None,
        clock: Clock | None = None,
        observer: TransferObserver = NO_OBSERVER,
    ) -> None:
        self._observer = observer
        self._settings = settings or HandoffSettings()
        self._clock = clock or WallClock()
        self._background = BackgroundLoop("kv-receiver")
        self._links = ReceiverLinks(pool.layout, self._settings, self._clock)
        self._reception = Reception(
            pool,
            allocator,
            hold_s=self._settings.hold_s(pool.engine.backend),
            tell=self._tell,
            observer=observer,
        )
        self._has_work = asyncio.Event()
        self._is_closed = False
        try:
            listening = self._links.listen(self._reception, self._background.start)
            self._background.wait_for(listening)
        except BaseException:
            self._background.close()
            raise
        self._background.call(self._watch)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the control channel."""
        return self._settings.listen_host, self._links.port

    @property
    def num_quarantined_pages(self) -> int:
        """Pages of failed hand-offs that cannot be used again yet."""
        return self._reception.num_quarantined_pages

    def num_by_state(self) -> Counter[IncomingState]:
        """Return how many hand-offs are in each state."""
        return self._reception.num_by_state()

    def open(self, num_tokens: int, *, timeout_s: float = math.inf) -> IncomingKv | None:
        """Reserve pages for a prompt's KV; None when there are not enough free ones.

        Args:
            num_tokens: as many as can come, at least 1.
            timeout_s: when it is given up, unless the sender has written all by then.

        Raises:
            ValueError: the receiver was closed.
        """
        if self._is_closed:
            raise ValueError("the receiver was closed")
        deadline_s = self._clock.now_s() + timeout_s
        incoming = self._reception.open(self.address, num_tokens, deadline_s=deadline_s)
        if incoming is not None:
            count_end(incoming.arrival, self._observer, self._clock)
            self._background.call(self._has_work.set)
        return incoming

    def lost_senders(self) -> set[str]:
        """Return the senders whose connection broke and who may still live and write."""
        return self._reception.lost_senders()

    def declare_dead(self, sender_id: str) -> None:
        """Somebody knows that a sender's machine is gone: its pages need not be kept for it.

        Only for a sender whose connection broke; nothing happens for others.
        """
        self._reception.sender_died(sender_id)

    def close(self, *, within_s: float = 10.0) -> bool:
        """Give up everything that is open and stop; return whether all pages came back in time.

        If not, the pool's memory stays where it is even when the pool is closed. Twice is once.
        """
        self._is_closed = True
        error = TransferError("the receiver closes", fault=TransferFault.ABORTED)
        self._reception.give_up_all(error)
        end_s = self._clock.now_s() + within_s
        pause = threading.Event()
        while len(self._reception) and self._clock.now_s() < end_s:
            pause.wait(_CLOSE_POLL_S)
        self._background.call(self._links.close)
        self._background.close()
        return len(self._reception) == 0

    def _tell(self, sender_id: str, message: Stop) -> None:
        self._background.call(self._links.tell, sender_id, message)

    def _watch(self) -> None:
        self._background.start(self._keep_time())
        self._background.start(self._look_for_lost())

    async def _keep_time(self) -> None:
        while True:
            # An idle receiver wakes nobody.
            if len(self._reception) == 0:
                self._has_work.clear()
                await self._has_work.wait()
            self._reception.tick(self._clock.now_s())
            await asyncio.sleep(_TICK_S)

    async def _look_for_lost(self) -> None:
        while True:
            await self._has_work.wait()
            for sender_id in self._reception.lost_senders():
                if await self._links.is_gone(sender_id):
                    self._reception.sender_died(sender_id)
                    self._links.forget(sender_id)
            await asyncio.sleep(self._settings.probe_interval_s)
