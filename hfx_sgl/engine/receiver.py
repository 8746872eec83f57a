"""Decode role: sequences that are not in the running batch, and the memory set aside for them."""

from heapq import heapify, heappop, heappush

from hfx_sgl.engine.kv_store import KvStore
from hfx_sgl.engine.running import MAX_EXPECTED_TOKENS, RunningSet
from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.waiting import SequenceQueue

FEW_RUNNING_REQUESTS = 32
NUM_EXTRA_ROWS_FACTOR = 2
"""A decode server with few running requests holds twice as many more in transfer."""

MIN_STALE_ENTRIES = 64
"""The heap of single needs is cleaned up when it holds so many entries too many."""


class KvReceiver:
    """Reserves memory for prompts whose KV is going to come, in the order of a queue.

    Follows SGLang's decode prealloc queue: enough is left for the running requests to grow, and
    who was retracted comes back before anybody new.
    """

    def __init__(self, spec: EngineSpec, store: KvStore, running: RunningSet) -> None:
        self._store = store
        self._running = running
        self._num_reserved_tokens = spec.num_reserved_decode_tokens
        self._max_running = spec.max_running_requests
        self._num_rows = spec.max_running_requests
        if spec.max_running_requests <= FEW_RUNNING_REQUESTS:
            self._num_rows += NUM_EXTRA_ROWS_FACTOR * spec.max_running_requests
        self.prealloc = SequenceQueue(spec.has_priority)
        self.transfers: dict[str, Sequence] = {}
        self.arrived = SequenceQueue(spec.has_priority)
        self.retracted: dict[str, Sequence] = {}
        # Upper bounds of what a running request needs in all, the largest first.
        self._single: list[tuple[int, int, Sequence]] = []
        self._num_entries = 0

    def submit(self, sequence: Sequence) -> None:
        """Let a sequence wait for room."""
        sequence.state = SequenceState.PREALLOC
        self.prealloc.append(sequence)

    def arrive(self, sequence: Sequence) -> None:
        """The KV of a sequence is here."""
        del self.transfers[sequence.request_id]
        sequence.state = SequenceState.ARRIVED
        self.arrived.append(sequence)

    def retract(self, sequence: Sequence) -> None:
        """Take a sequence that has left the running batch and whose KV is parked elsewhere."""
        sequence.state = SequenceState.RETRACTED
        self.retracted[sequence.request_id] = sequence

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, in whichever queue it is."""
        if sequence.state is SequenceState.PREALLOC:
            self.prealloc.remove(sequence)
        elif sequence.state is SequenceState.TRANSFER:
            del self.transfers[sequence.request_id]
        elif sequence.state is SequenceState.ARRIVED:
            self.arrived.remove(sequence)
        else:
            del self.retracted[sequence.request_id]

    def restore(self) -> None:
        """Bring back who was retracted, in order, as far as there is room."""
        for sequence in list(self.retracted.values()):
            num_kv = sequence.num_fill_tokens - 1
            num_tokens = self._store.round_up(num_kv)
            # Without a page to grow into it would be retracted again at once.
            num_spare = max(self._num_reserved_tokens, self._store.page_tokens)
            fits = num_tokens + num_spare <= self._num_room(with_single=False)
            if not fits and self._num_active:
                return
            del self.retracted[sequence.request_id]
            self._store.grow(sequence, num_kv)
            sequence.state = SequenceState.ARRIVED
            self.arrived.append(sequence)

    def allocate(self) -> list[Sequence]:
        """Reserve memory for those at the head of the queue; return them."""
        allocated: list[Sequence] = []
        if self.retracted:
            return allocated
        while (sequence := self.prealloc.first()) is not None:
            if self._num_active >= self._num_rows or not self._fits(sequence):
                break
            self.prealloc.remove(sequence)
            self._store.grow(sequence, sequence.num_prompt_tokens)
            sequence.state = SequenceState.TRANSFER
            self.transfers[sequence.request_id] = sequence
            allocated.append(sequence)
        return allocated

    def join(self) -> list[Sequence]:
        """Return those that enter the running batch, in order; they are in no queue then."""
        joining: list[Sequence] = []
        num_places = self._max_running - len(self._running)
        while len(joining) < num_places and (sequence := self.arrived.first()) is not None:
            self.arrived.remove(sequence)
            joining.append(sequence)
        return joining

    def joined(self, sequence: Sequence) -> None:
        """Note what a sequence that is in the running batch may need in all."""
        if len(self._single) > 2 * len(self._running) + MIN_STALE_ENTRIES:
            self._single = [
                entry for entry in self._single if entry[2].state is SequenceState.RUNNING
            ]
            heapify(self._single)
        self._num_entries += 1
        heappush(self._single, (-_single_need(sequence), self._num_entries, sequence))

    @property
    def _num_active(self) -> int:
        return len(self._running) + len(self.transfers) + len(self.arrived)

    def _fits(self, sequence: Sequence) -> bool:
        num_tokens = self._store.round_up(sequence.num_prompt_tokens)
        num_required = max(
            num_tokens + self._num_reserved_tokens,
            _single_need(sequence) - self._num_retractable,
        )
        return num_required <= self._num_room(with_single=True)

    @property
    def _num_retractable(self) -> int:
        """Tokens of the running requests: retracting all but one would free them."""
        return self._running.num_kv_tokens + len(self._running)

    def _num_room(self, *, with_single: bool) -> int:
        """Return the memory that may be given away."""
        reserved = self._num_reserved_tokens * self._num_active
        single = self._single
        if with_single:
            while single and single[0][2].state is not SequenceState.RUNNING:
                heappop(single)
            if single:
                reserved = max(reserved, -single[0][0] - self._num_retractable)
        return self._store.num_available_tokens - reserved


def _single_need(sequence: Sequence) -> int:
    return sequence.num_prompt_tokens + min(sequence.max_new_tokens, MAX_EXPECTED_TOKENS)
