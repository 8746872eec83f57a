"""Waiting requests whose prefix saves much, by the worker that has most of it."""

from collections.abc import KeysView

from hfx_sgl.policy.scheduler.by_deadline import ByDeadline
from hfx_sgl.policy.scheduler.entry import Entry

_NOWHERE = ""


class Hits:
    """An index of those who wait, so that for a worker only its own are looked at.

    Args:
        gain: a prefix saves much when it saves this many times what is left to compute.
    """

    def __init__(self, gain: float) -> None:
        self._least_ratio = 1.0 + gain
        self._home_ids: dict[int, str] = {}
        """Where each that waits is kept, by sequence."""
        self._by_home: dict[str, ByDeadline] = {}
        """No empty ones."""

    @property
    def home_ids(self) -> KeysView[str]:
        """The workers that have such a prefix of somebody."""
        return self._by_home.keys()

    def is_much(self, entry: Entry) -> bool:
        """Return whether its prefix saves much."""
        return entry.uncached_s >= self._least_ratio * entry.service_s

    def of(self, home_id: str, last: Entry) -> list[Entry]:
        """Return those of a worker in order of deadline, up to a certain one."""
        return self._by_home[home_id].until(last)

    def add(self, entry: Entry) -> None:
        """A request waits from here on."""
        self._home_ids[entry.sequence] = _NOWHERE
        self.update(entry)

    def update(self, entry: Entry) -> None:
        """It was judged again: what was found of its prefix, or how long it takes, may differ.

        Whoever does not wait is not heeded.
        """
        before = self._home_ids.get(entry.sequence)
        if before is None:
            return
        home_id = entry.home_id
        if home_id is None or not self.is_much(entry):
            home_id = _NOWHERE
        if home_id == before:
            return
        self._take_out(entry, before)
        self._home_ids[entry.sequence] = home_id
        if home_id == _NOWHERE:
            return
        kept = self._by_home.get(home_id)
        if kept is None:
            kept = self._by_home[home_id] = ByDeadline()
        kept.add(entry)

    def discard(self, entry: Entry) -> None:
        """A request waits no longer, or is late."""
        home_id = self._home_ids.pop(entry.sequence, None)
        if home_id is not None:
            self._take_out(entry, home_id)

    def _take_out(self, entry: Entry, home_id: str) -> None:
        if home_id != _NOWHERE:
            kept = self._by_home[home_id]
            kept.discard(entry)
            if not kept.entries:
                del self._by_home[home_id]
