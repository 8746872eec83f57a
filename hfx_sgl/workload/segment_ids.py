"""Ids for the segments of prompts: 64 bits, from a name and a number. Pure."""

import xxhash

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


class SegmentIds:
    """Maps numbers to ids: different numbers have different ids (the factor is odd).

    Args:
        name: what is numbered, seed included; ids of different names differ but for chance.
    """

    __slots__ = ("_base",)

    def __init__(self, name: str) -> None:
        self._base = xxhash.xxh3_64_intdigest(name.encode())

    def of(self, number: int) -> int:
        """Return the id of a number."""
        return (self._base + number * _GOLDEN) & _MASK
