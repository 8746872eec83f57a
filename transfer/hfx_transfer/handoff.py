"""The fields by which a prefill and a decode worker of SGLang find each other for one request.

SGLang takes them from the request body: the prefill worker's bootstrap address and a room, an
integer that names this one hand-off. A decode scheduler of 0.5.23 dies when one is missing, so all
are always written together, by `pairing_members` alone.
"""

import json
import random
from functools import lru_cache

ROOM_BITS = 63
"""SGLang keeps rooms in signed 64-bit integers."""

_BATCH_BITS = 16
"""Low bits in which the requests of one batch differ: SGLang numbers them room, room + 1, ..."""

MAX_ROOMS_PER_REQUEST = 1 << _BATCH_BITS

_BLOCKS = 1 << (ROOM_BITS - _BATCH_BITS)
_ODD_STRIDE = 0x2545F4914F6D
"""Odd, so that stepping by it visits every block of a power of two before it repeats one."""


class RoomAllocator:
    """Hands out rooms that this process never hands out again.

    A block of 2^16 rooms serves one request. Blocks come from a walk with an odd stride over all
    2^47 of them, begun at random, so two routers in front of the same workers are unlikely to
    meet. The low bits are random because SGLang may choose a data-parallel rank by room modulo
    ranks.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._block = rng.getrandbits(ROOM_BITS - _BATCH_BITS)

    def take(self, num_rooms: int = 1) -> int:
        """Return the first of `num_rooms` consecutive rooms (1 to MAX_ROOMS_PER_REQUEST)."""
        if not 1 <= num_rooms <= MAX_ROOMS_PER_REQUEST:
            raise ValueError(f"num_rooms must be in 1..{MAX_ROOMS_PER_REQUEST} ({num_rooms})")
        self._block = block = (self._block + _ODD_STRIDE) & (_BLOCKS - 1)
        offset = self._rng.getrandbits(_BATCH_BITS)
        return (block << _BATCH_BITS) + min(offset, MAX_ROOMS_PER_REQUEST - num_rooms)


@lru_cache(maxsize=4096)
def bootstrap_address_members(bootstrap_host: str, bootstrap_port: int | None) -> bytes:
    """Return the part of the pairing members that is the same for every request to one prefill."""
    port = "null" if bootstrap_port is None else str(bootstrap_port)
    return f'"bootstrap_host":{json.dumps(bootstrap_host)},"bootstrap_port":{port}'.encode()


def pairing_members(address_members: bytes, room: int) -> bytes:
    """Return the JSON members that pair two legs.

    Scalars also serve a batch: SGLang repeats host and port and counts rooms upwards from the
    given one over all prompts and samples, where lists would repeat rooms between samples.
    """
    return b'%b,"bootstrap_room":%d' % (address_members, room)
