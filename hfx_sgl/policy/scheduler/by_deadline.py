"""Requests in order of their deadlines."""

from bisect import bisect_left, bisect_right

from hfx_sgl.policy.scheduler.entry import Entry

Key = tuple[float, int]


class ByDeadline:
    """Most urgent first, then by arrival.

    Two sorted lists: finding a place takes log n steps, and shifting what is behind it is one move
    of memory.
    """

    __slots__ = ("_keys", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        """In order. To be read only."""
        self._keys: list[Key] = []

    def add(self, entry: Entry) -> None:
        """Put a request in its place."""
        key = entry.key
        position = bisect_left(self._keys, key)
        self._keys.insert(position, key)
        self.entries.insert(position, entry)

    def discard(self, entry: Entry) -> bool:
        """Take a request out; return whether it was here."""
        position = bisect_left(self._keys, entry.key)
        if position == len(self.entries) or self.entries[position] is not entry:
            return False
        del self._keys[position]
        del self.entries[position]
        return True

    def until(self, last: Entry) -> list[Entry]:
        """Return those that are no less urgent than another, who need not be here."""
        return self.entries[: bisect_right(self._keys, last.key)]
