"""The prefill side: pushes prompts' KV to receivers while it is computed."""

import asyncio

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.kv.background import BackgroundLoop
from hfx_transfer.kv.counts import count_end
from hfx_transfer.kv.layout import check_compatible
from hfx_transfer.kv.life import LifePort
from hfx_transfer.kv.offer import KvOffer
from hfx_transfer.kv.outgoing import OutgoingKv
from hfx_transfer.kv.pool import KvPool
from hfx_transfer.kv.pump import Pump
from hfx_transfer.kv.sender_links import SenderLink
from hfx_transfer.kv.settings import HandoffSettings
from hfx_transfer.observer import NO_OBSERVER, TransferObserver

_CLOSE_POLL_S = 0.01


class KvSender:
    """Hands KV of one pool to any number of receivers. Usable from any thread.

    Args:
        pool: outlives the sender.
        observer: counts bytes that are gone, and hand-offs from `begin` to `accepted`.

    Raises:
        OSError: it cannot listen on its life port.
    """

    def __init__(
        self,
        pool: KvPool,
        *,
        settings: HandoffSettings | None = None,
        clock: Clock | None = None,
        observer: TransferObserver = NO_OBSERVER,
    ) -> None:
        self._pool = pool
        self._observer = observer
        self._settings = settings or HandoffSettings()
        self._clock = clock or WallClock()
        self._life = LifePort(self._settings.listen_host)
        self._background = BackgroundLoop("kv-sender")
        self._background.wait_for(self._life.serve())
        # The rest belongs to the loop's thread.
        self._links: dict[tuple[str, int], SenderLink] = {}
        """To which new hand-offs are given."""
        self._running: set[SenderLink] = set()
        self._is_settled: bool | None = None
        """Whether all had ended when it was closed; None while it is open."""

    def begin(self, offer: KvOffer) -> OutgoingKv:
        """Take up a receiver's offer. Returns at once; the outcome is in `accepted`.

        Raises:
            TransferError: INCOMPATIBLE, the two sides' KV or backends differ.
            ValueError: the sender was closed.
        """
        if self._is_settled is not None:
            raise ValueError("the sender was closed")
        backend = self._pool.engine.backend
        if offer.backend is not backend:
            message = f"backend is {backend} here and {offer.backend} there"
            raise TransferError(message, fault=TransferFault.INCOMPATIBLE)
        check_compatible(self._pool.layout, offer.layout)
        kv = OutgoingKv(offer, self._pool.layout, self._request_stop)
        count_end(kv.accepted, self._observer, self._clock)
        self._background.call(self._begin, kv)
        return kv

    def close(self, *, within_s: float = 10.0) -> bool:
        """Give up what is not finished and stop; twice is once.

        Returns:
            Whether all transfers had ended in time. If not, receivers wait for the end of this
            process with the pages that they had given for them.
        """
        if self._is_settled is None:
            self._is_settled = self._background.wait_for(self._wind_up(within_s))
            self._background.close()
        return self._is_settled

    def _request_stop(self, kv: OutgoingKv, error: TransferError) -> None:
        self._background.call(self._stop, kv, error)

    def _begin(self, kv: OutgoingKv) -> None:
        address = (kv.offer.host, kv.offer.port)
        link = self._links.get(address)
        if link is None or link.is_over:
            link = self._links[address] = self._new_link(address)
            self._running.add(link)
            self._background.start(self._run(link))
        link.begin(kv)

    def _new_link(self, address: tuple[str, int]) -> SenderLink:
        timeout_s = self._settings.first_contact_timeout_s
        return SenderLink(
            address,
            Pump(
                self._pool,
                first_contact_timeout_s=timeout_s,
                clock=self._clock,
                observer=self._observer,
            ),
            layout=self._pool.layout,
            backend=self._pool.engine.backend,
            life_port=self._life.port,
            settings=self._settings,
            clock=self._clock,
            call=self._background.call,
        )

    async def _run(self, link: SenderLink) -> None:
        try:
            await link.run()
        finally:
            self._running.discard(link)
            if self._links.get(link.address) is link:
                del self._links[link.address]
            link.pump.stop()

    def _stop(self, kv: OutgoingKv, error: TransferError) -> None:
        for link in self._running:
            link.stop(kv, error)

    async def _wind_up(self, within_s: float) -> bool:
        links = tuple(self._running)
        for link in links:
            link.stop_all(TransferError("the sender closes", fault=TransferFault.ABORTED))
        end_s = self._clock.now_s() + within_s
        while any(link.is_busy for link in links):
            if self._clock.now_s() > end_s:
                # The life port stays open: receivers must not take the writing for over.
                return False
            await asyncio.sleep(_CLOSE_POLL_S)
        self._life.close()
        for link in links:
            link.pump.stop()
            await asyncio.to_thread(link.pump.join)
        return True
