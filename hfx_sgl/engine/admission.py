"""Which waiting sequences enter the next prefill step, by the rules of SGLang's scheduler."""

import math

from hfx_sgl.engine.kv_store import KvStore
from hfx_sgl.engine.new_token_ratio import NewTokenRatio
from hfx_sgl.engine.preemption import preemption_victims
from hfx_sgl.engine.prefill_budget import PrefillBudget
from hfx_sgl.engine.running import MAX_EXPECTED_TOKENS, RunningSet
from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.steps import Chunk
from hfx_sgl.engine.waiting import SequenceQueue


class Admission:
    """Forms prefill steps: takes sequences from the queue, locks prefixes, allocates KV.

    At most one sequence is between two chunks; it comes first in each step.
    """

    def __init__(
        self,
        spec: EngineSpec,
        store: KvStore,
        waiting: SequenceQueue,
        running: RunningSet,
        ratio: NewTokenRatio,
    ) -> None:
        self._spec = spec
        self._store = store
        self._waiting = waiting
        self._running = running
        self._ratio = ratio
        self._preempts = spec.has_priority and spec.has_preemption
        self.chunked: Sequence | None = None
        """The sequence whose prompt is computed in part."""
        self.is_full = False
        """Nobody can enter before a request has left the running batch."""

    @property
    def retries_each_step(self) -> bool:
        """Whether who could not enter may be able to after a decode step."""
        return self._preempts and self._ratio.is_decaying and len(self._waiting) > 0

    @property
    def can_admit(self) -> bool:
        """Whether a sequence that comes into the queue may enter the next step."""
        return self._preempts or not self.is_full

    def form(self, num_rows_taken: int) -> tuple[list[Chunk], list[Sequence]]:
        """Take what fits into the next prefill step.

        Args:
            num_rows_taken: requests that are neither waiting nor running nor between chunks.

        Returns:
            The chunks, whose KV is allocated, and the sequences that were preempted for them,
            which hold nothing and are in no queue.
        """
        running = self._running
        if self._preempts or not len(running):
            self.is_full = False
        if self.chunked is None and (self.is_full or not len(self._waiting)):
            return [], []
        num_rows = self._spec.max_running_requests - len(running) - num_rows_taken
        num_rows -= self.chunked is not None
        if num_rows <= 0 and self.chunked is None and not self._preempts:
            self.is_full = True
            return [], []
        budget = PrefillBudget(
            self._spec,
            self._store,
            num_expected_tokens=running.num_expected_tokens * self._ratio.current,
            num_mixed_tokens=len(running) if self._spec.has_mixed_chunk else 0,
        )
        chunks: list[Chunk] = []
        if self.chunked is not None:
            self._continue(self.chunked, budget, chunks)
        preempted = self._admit(budget, chunks, num_rows)
        for chunk in chunks:
            self._store.grow(chunk.sequence, chunk.num_tokens)
        return chunks, preempted

    def _continue(self, sequence: Sequence, budget: PrefillBudget, chunks: list[Chunk]) -> None:
        """Add the next chunk of the sequence that is between two, as long as memory allows."""
        store = self._store
        num_computed = sequence.num_kv_tokens
        num_left = sequence.num_fill_tokens - num_computed
        most = min(budget.chunk_tokens, budget.num_left_tokens)
        if most <= 0:
            # It has to go on, or it never gives back what it holds.
            most = budget.chunk_tokens
        room = store.num_available_tokens + store.round_up(num_computed) - num_computed
        most = min(most, room)
        num_tokens = num_left
        if num_left > most:
            num_tokens = self._cut(num_computed, most)
            if num_tokens <= 0:
                return
        is_last = num_tokens == num_left
        if is_last:
            self.chunked = None
        budget.take(num_tokens, _max_new(sequence) if is_last else 0)
        chunks.append(Chunk(sequence, num_tokens, num_computed, is_last))

    def _admit(self, budget: PrefillBudget, chunks: list[Chunk], num_rows: int) -> list[Sequence]:
        """Go through the queue as far as it fits; return who was preempted."""
        preempted: list[Sequence] = []
        admitted: list[Sequence] = []
        for sequence in self._waiting:
            if budget.is_spent:
                self.is_full = self.is_full or not chunks
                break
            if len(admitted) >= num_rows + len(preempted):
                self.is_full = True
            if self.is_full:
                victims = self._preempt_for(sequence, budget)
                if not victims:
                    break
                preempted += victims
            chunk = self._try(sequence, budget, is_first=not chunks)
            if chunk is None:
                break
            chunks.append(chunk)
            admitted.append(sequence)
            if not budget.has_memory:
                self.is_full = True
                break
        for sequence in admitted:
            self._waiting.remove(sequence)
            sequence.state = SequenceState.PREFILL
        return preempted

    def _try(self, sequence: Sequence, budget: PrefillBudget, *, is_first: bool) -> Chunk | None:
        """Lock the prefix of a sequence and charge its first chunk; None if it does not fit."""
        store = self._store
        num_prefix = store.share(sequence)
        num_tokens = sequence.num_fill_tokens - num_prefix
        num_expected = min(sequence.max_new_tokens - sequence.num_outputs, MAX_EXPECTED_TOKENS)
        is_last = True
        if num_tokens + num_expected + store.page_tokens >= budget.num_left_tokens:
            self.is_full = not is_first or len(self._running) > 0
            num_tokens = 0
        elif not is_first and not budget.may_compute(store.round_up(num_tokens)):
            num_tokens = 0
        elif store.round_up(num_tokens) > budget.chunk_tokens:
            num_tokens = self._cut(num_prefix, budget.chunk_tokens)
            is_last = False
            self.is_full = self.is_full or (num_tokens <= 0 and is_first)
        if num_tokens <= 0:
            store.release(sequence)
            return None
        if not is_last:
            self.chunked = sequence
        budget.take(num_tokens, _max_new(sequence) if is_last else 0)
        return Chunk(sequence, num_tokens, num_prefix, is_last)

    def _cut(self, num_before: int, most: float) -> int:
        """Return how many tokens, `most` at most, end on a page."""
        end = num_before + math.floor(most)
        return end - end % self._spec.page_tokens - num_before

    def _preempt_for(self, sequence: Sequence, budget: PrefillBudget) -> list[Sequence]:
        """Retract running sequences of lower priority so that one can take their place."""
        if not self._preempts:
            return []
        num_missing = sequence.num_fill_tokens + _max_new(sequence) - budget.num_left_tokens
        ratio = self._ratio.current
        victims = preemption_victims(
            sequence,
            self._running,
            threshold=self._spec.preemption_threshold,
            num_missing_tokens=num_missing,
            expected_tokens=lambda member: self._running.num_expected_of(member) * ratio,
        )
        for victim in victims:
            budget.forget(self._running.num_expected_of(victim) * ratio)
            self._running.remove(victim)
            self._store.release(victim)
        return victims


def _max_new(sequence: Sequence) -> int:
    return min(sequence.max_new_tokens, MAX_EXPECTED_TOKENS)
