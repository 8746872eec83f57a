"""Who waits for the worker with its prefix, remembered for as long as that cannot have changed."""

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.worker_state import WorkerState

Ground = str | int
"""A worker, or the first digest of a prompt."""
Terms = tuple[frozenset[str], tuple[Entry, WorkerState] | None, bool]
"""What holds for all: which workers are barred, which is reserved, whether the pool is idle."""


class Waiters:
    """Of the many that wait, only those are asked again for whom something has changed.

    That somebody waits rests on the workers that have some of its prefix, and on nobody being sent
    a prompt that begins as its own does. Both are told apart, so that a worker that becomes ready
    costs no more than the requests that it is there for.
    """

    def __init__(self, prefillers: WorkerPool, decoders: WorkerPool) -> None:
        self._prefillers = prefillers
        self._decoders = decoders
        self.seen: set[int] = set()
        """Who was found to wait since the pool last changed, by sequence."""
        self.known: dict[int, tuple[Ground, ...]] = {}
        """Who waits, by sequence, whatever of the pool has changed: what it rests on."""
        self._by_ground: dict[Ground, set[int]] = {}
        """The same the other way round. No empty ones."""
        self._most_kv_tokens = 0
        """The most that one of them needs on a decode worker."""
        self._terms: Terms | None = None
        self._is_doubtful = False
        """Whether the terms are others than they were for some of them."""
        self._version = -1

    def begin(self, terms: Terms, *, is_new: bool) -> None:
        """A step begins: forget those who may not wait any more.

        As long as the pool stays as it is nobody is asked again, whatever else has changed.

        Args:
            terms: what holds for all.
            is_new: whether all have been judged anew.
        """
        if terms != self._terms:
            self._terms = terms
            self._is_doubtful = True
        pool = self._prefillers
        if pool.version == self._version and not is_new:
            return
        self._version = pool.version
        self.seen.clear()
        has_no_room = self._decoders.most_room_tokens < self._most_kv_tokens
        if is_new or self._is_doubtful or has_no_room:
            self.forget()
        else:
            for worker_id in pool.changed_ids:
                self._drop(worker_id)
        pool.changed_ids.clear()

    def add(self, entry: Entry, home: WorkerState) -> None:
        """Remember that it waits for this worker, as it was just found to."""
        grounds: tuple[Ground, ...] = (*entry.hit_tokens, *entry.grains[:1])
        self.known[entry.sequence] = grounds
        for ground in grounds:
            sequences = self._by_ground.get(ground)
            if sequences is None:
                self._by_ground[ground] = {entry.sequence}
            else:
                sequences.add(entry.sequence)
        if home.is_prefill_only and entry.kv_tokens > self._most_kv_tokens:
            self._most_kv_tokens = entry.kv_tokens

    def sent(self, entry: Entry) -> None:
        """A prompt is sent: those that begin as it does may find more than before."""
        self.discard(entry)
        if entry.grains:
            self._drop(entry.grains[0])

    def discard(self, entry: Entry) -> None:
        """A request is not to be placed any more, or is late."""
        self._remove(entry.sequence)

    def forget(self) -> None:
        """All is different, as when a worker has left: its prefixes are gone for everybody."""
        self.known.clear()
        self._by_ground.clear()
        self._most_kv_tokens = 0
        self._is_doubtful = False

    def _drop(self, ground: Ground) -> None:
        sequences = self._by_ground.get(ground)
        if sequences is not None:
            for sequence in list(sequences):
                self._remove(sequence)

    def _remove(self, sequence: int) -> None:
        for ground in self.known.pop(sequence, ()):
            sequences = self._by_ground[ground]
            sequences.discard(sequence)
            if not sequences:
                del self._by_ground[ground]
