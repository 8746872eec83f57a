"""A queue of sequences: first come first served, or the higher priority first."""

from bisect import insort
from collections.abc import Iterator

from hfx_sgl.engine.sequence import Sequence


class SequenceQueue:
    """Sequences in the order in which they are to be taken. Each change costs O(1)."""

    def __init__(self, has_priority: bool) -> None:
        self._has_priority = has_priority
        # One level per priority, the highest first; entries of a level in order of arrival.
        self._levels: dict[int, dict[str, Sequence]] = {}
        self._order: list[int] = []
        self._num_sequences = 0
        self._num_tokens = 0

    def __len__(self) -> int:
        return self._num_sequences

    def __iter__(self) -> Iterator[Sequence]:
        for key in self._order:
            yield from self._levels[key].values()

    @property
    def num_tokens(self) -> int:
        """Tokens of all: prompts and what was produced before they came here."""
        return self._num_tokens

    def append(self, sequence: Sequence) -> None:
        """Put a sequence behind those of its priority."""
        key = self._key(sequence)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = {}
            insort(self._order, key)
        level[sequence.request_id] = sequence
        self._num_sequences += 1
        self._num_tokens += sequence.num_fill_tokens

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out. Its counts are still those that it came with."""
        key = self._key(sequence)
        level = self._levels[key]
        del level[sequence.request_id]
        if not level:
            del self._levels[key]
            self._order.remove(key)
        self._num_sequences -= 1
        self._num_tokens -= sequence.num_fill_tokens

    def first(self) -> Sequence | None:
        """Return the one to be taken next."""
        return next(iter(self._levels[self._order[0]].values())) if self._order else None

    def last(self) -> Sequence | None:
        """Return the one to be taken last: the newest of the lowest priority."""
        return next(reversed(self._levels[self._order[-1]].values())) if self._order else None

    def _key(self, sequence: Sequence) -> int:
        return -sequence.priority if self._has_priority else 0
