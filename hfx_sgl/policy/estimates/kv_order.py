"""Whether what a worker says about its cache is heard completely and once.

A worker numbers its messages from 0 and stamps them with its own clock.
"""

import math
from enum import StrEnum


class Hearing(StrEnum):
    """What to make of a message."""

    NEXT = "next"
    REPEATED = "repeated"
    """It was heard before."""
    GAP = "gap"
    """Something before it was missed."""
    RESTARTED = "restarted"
    """The worker counts from the beginning again."""


class MessageOrder:
    """Follows the numbers of one worker's messages."""

    __slots__ = ("_last_stamp_s", "next_number")

    def __init__(self) -> None:
        self.next_number = 0
        """Of the message that is missing to have heard everything."""
        self._last_stamp_s = -math.inf

    def hear(self, number: int, stamp_s: float) -> Hearing:
        """Judge a message; only after NEXT is it counted as heard."""
        if number < self.next_number:
            is_later = stamp_s > self._last_stamp_s
            return Hearing.RESTARTED if is_later else Hearing.REPEATED
        if number > self.next_number:
            return Hearing.GAP
        self.next_number = number + 1
        self._last_stamp_s = stamp_s
        return Hearing.NEXT

    def skip_to(self, number: int) -> None:
        """Give up what was missed: message `number` comes next."""
        self.next_number = number
