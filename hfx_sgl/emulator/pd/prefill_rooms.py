"""The prefill side of the rendezvous: which rooms are open, and who waits in them. No I/O."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from hfx_sgl.emulator.pd.messages import Message, Topic

_REMEMBERED_ROOMS = 10_000
"""Rooms that the decode side left before the request came; older ones are forgotten."""

Send = Callable[[Message], None]
"""Tells one decode worker; also its identity."""


@dataclass(slots=True)
class _Open:
    request_id: str | None = None
    send: Send | None = None
    """Whoever granted; None while nobody has."""
    offer: str | None = None
    """What came with the grant."""


class PrefillRooms:
    """Brings the requests of a prefill worker together with the decode workers' grants.

    Args:
        granted: called with a request when the decode side has room for it, and with where real
            bytes are to go, if any.
        failed: called with a request whose decode side is gone.
    """

    def __init__(
        self, granted: Callable[[str, str | None], None], failed: Callable[[str], None]
    ) -> None:
        self._granted = granted
        self._failed = failed
        self._rooms: dict[int, _Open] = {}
        self._withdrawn: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rooms)

    def has(self, room: int) -> bool:
        """Whether a request is in this room."""
        known = self._rooms.get(room)
        return known is not None and known.request_id is not None

    def enter(self, room: int, request_id: str) -> None:
        """A request has come for this room; what the decode side did before takes effect.

        The room has no other request.
        """
        if room in self._withdrawn:
            del self._withdrawn[room]
            self._failed(request_id)
            return
        known = self._rooms.setdefault(room, _Open())
        known.request_id = request_id
        if known.send is not None:
            self._granted(request_id, known.offer)

    def sent(self, room: int, num_cached_tokens: int) -> None:
        """The request has ended, and its KV is on the other side."""
        self._close(Message(Topic.SENT, room, num_cached_tokens))

    def left(self, room: int) -> None:
        """The request has ended, and the decode side has waited in vain."""
        self._close(Message(Topic.FAILED, room))

    def receive(self, message: Message, send: Send) -> None:
        """Take a message of a decode worker."""
        if message.topic is Topic.GRANTED:
            known = self._rooms.setdefault(message.room, _Open())
            known.send, known.offer = send, message.offer
            if known.request_id is not None:
                self._granted(known.request_id, known.offer)
        elif message.topic is Topic.WITHDRAWN:
            self._withdraw(message.room)

    def lost(self, send: Send) -> None:
        """A decode worker is gone."""
        rooms = [room for room, known in self._rooms.items() if known.send is send]
        for room in rooms:
            known = self._rooms.pop(room)
            if known.request_id is not None:
                self._failed(known.request_id)

    def _withdraw(self, room: int) -> None:
        known = self._rooms.pop(room, None)
        if known is not None and known.request_id is not None:
            self._failed(known.request_id)
            return
        self._withdrawn[room] = None
        if len(self._withdrawn) > _REMEMBERED_ROOMS:
            self._withdrawn.popitem(last=False)

    def _close(self, message: Message) -> None:
        known = self._rooms.pop(message.room, None)
        if known is not None and known.send is not None:
            known.send(message)
