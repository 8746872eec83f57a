"""Each side's part in one hand-off, as a sequence calls it."""

from collections.abc import Callable

from hfx_sgl.emulator.kv.expecting import RealExpecting
from hfx_sgl.emulator.kv.protocol import KvMover
from hfx_sgl.emulator.kv.sending import RealSending
from hfx_sgl.emulator.pd.decode_links import Address, DecodeLinks
from hfx_sgl.emulator.pd.prefill_rooms import PrefillRooms


class PrefillHandoff:
    """The prefill side of one room."""

    def __init__(self, rooms: PrefillRooms, room: int) -> None:
        self._rooms = rooms
        self._room = room
        self._is_sent = False
        self.sending: RealSending | None = None
        """None when the transfer's time is modelled and nothing moves."""

    def kv_allocated(self) -> None:
        """Only decode engines allocate for a hand-off."""

    def kv_sent(self) -> None:
        """The KV is on the other side."""
        self._is_sent = True

    def ended(self, num_cached_tokens: int) -> None:
        """The prompt has left this worker."""
        if self.sending is not None:
            self.sending.cancel()
        if self._is_sent:
            self._rooms.sent(self._room, num_cached_tokens)
        else:
            self._rooms.left(self._room)


class DecodeHandoff:
    """The decode side of one room, its time modelled."""

    def __init__(self, links: DecodeLinks, address: Address, room: int) -> None:
        self._links = links
        self._address = address
        self._room = room
        self._is_announced = False

    @property
    def has_arrived(self) -> bool:
        """Whether the KV is here and the prefill side is done with it."""
        return self._is_announced

    def announced(self) -> None:
        """The prefill side says that it is done."""
        self._is_announced = True

    def kv_allocated(self) -> None:
        """There is room for the KV."""
        self._grant(None)

    def kv_sent(self) -> None:
        """Only prefill engines send."""

    def ended(self, num_cached_tokens: int) -> None:
        """The prompt has left this worker."""
        if not self._is_announced:
            self._links.withdraw(self._address, self._room)

    def _grant(self, offer: str | None) -> None:
        self._links.grant(self._address, self._room, offer)


class RealDecodeHandoff(DecodeHandoff):
    """The same with real bytes, which have to be here as well.

    Args:
        on_end: called with the room when the bytes are here, with None, or with what is wrong.
    """

    def __init__(
        self,
        links: DecodeLinks,
        address: Address,
        room: int,
        *,
        mover: KvMover,
        num_tokens: int,
        on_end: Callable[[int, str | None], None],
    ) -> None:
        super().__init__(links, address, room)
        self._mover = mover
        self._num_tokens = num_tokens
        self._on_end = on_end
        self._expecting: RealExpecting | None = None
        self._is_here = False

    @property
    def has_arrived(self) -> bool:
        """Whether the KV is here and the prefill side is done with it."""
        return self._is_here and super().has_arrived

    def kv_allocated(self) -> None:
        """The engine has room; the prefill side hears of it once there is memory too."""
        self._expecting = RealExpecting(
            self._mover, self._num_tokens, on_offer=self._grant, on_end=self._bytes_ended
        )

    def ended(self, num_cached_tokens: int) -> None:
        """The prompt has left this worker, and its KV with it."""
        super().ended(num_cached_tokens)
        if self._expecting is not None:
            self._expecting.cancel()

    def _bytes_ended(self, problem: str | None) -> None:
        self._is_here = problem is None
        self._on_end(self._room, problem)
