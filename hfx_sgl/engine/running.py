"""The running batch: counts that each decode step moves on for all its sequences at once."""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from hfx_sgl.engine.sequence import Sequence, SequenceState

MAX_EXPECTED_TOKENS = 4096
"""A request is not expected to need more (`SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`)."""


class RunningSet:
    """Sequences that get one token per decode step.

    Nothing is kept per sequence and step: what a sequence has produced is its `offset` plus
    `num_steps`, the decode steps so far. Sums over the sequences are linear in `num_steps`, so
    any number of steps costs the same.
    """

    def __init__(self, page_tokens: int) -> None:
        self.num_steps = 0
        self._page_tokens = page_tokens
        self._members: dict[str, Sequence] = {}
        self._num_entries = count()
        # By finish step; entries of sequences that have left are skipped when they come up.
        self._finishing: list[tuple[int, int, Sequence]] = []
        # KV tokens of all, less `num_steps` for each.
        self._kv_base = 0
        # How many need a page when `num_steps` has this remainder by `page_tokens`.
        self._num_growing = [0] * page_tokens
        # Tokens up to `max_new_tokens`, of those that are not clipped, plus `num_steps` for each.
        self._remaining_base = 0
        self._num_clipped = 0
        self._unclipping: list[tuple[int, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._members.values())

    def add(self, sequence: Sequence) -> None:
        """Let a sequence join; it has produced a token and has not ended."""
        offset = sequence.num_outputs - self.num_steps
        sequence.offset = offset
        sequence.state = SequenceState.RUNNING
        sequence.finish_step = sequence.target_tokens - offset
        self._members[sequence.request_id] = sequence
        entry_no = next(self._num_entries)
        heappush(self._finishing, (sequence.finish_step, entry_no, sequence))
        base = sequence.num_prompt_tokens + offset - 1
        self._kv_base += base
        self._num_growing[-base % self._page_tokens] += 1
        unclip_step = sequence.max_new_tokens - MAX_EXPECTED_TOKENS - offset
        sequence.is_clipped = unclip_step > self.num_steps
        if sequence.is_clipped:
            self._num_clipped += 1
            heappush(self._unclipping, (unclip_step, entry_no, sequence))
        else:
            self._remaining_base += sequence.max_new_tokens - offset

    def remove(self, sequence: Sequence) -> None:
        """Let a sequence leave; from here on it keeps its counts itself."""
        self._update_clipped()
        del self._members[sequence.request_id]
        sequence.num_outputs = self.num_outputs(sequence)
        base = sequence.num_prompt_tokens + sequence.offset - 1
        sequence.num_kv_tokens = base + self.num_steps
        self._kv_base -= base
        self._num_growing[-base % self._page_tokens] -= 1
        if sequence.is_clipped:
            self._num_clipped -= 1
            sequence.is_clipped = False
        else:
            self._remaining_base -= sequence.max_new_tokens - sequence.offset

    def num_outputs(self, sequence: Sequence) -> int:
        """Return what a member has produced."""
        return sequence.offset + self.num_steps

    def update_outputs(self) -> None:
        """Write what they have produced into the members."""
        for sequence in self._members.values():
            sequence.num_outputs = sequence.offset + self.num_steps

    @property
    def num_kv_tokens(self) -> int:
        """Tokens whose KV the members have on the device."""
        return self._kv_base + len(self._members) * self.num_steps

    @property
    def num_expected_tokens(self) -> int:
        """How many tokens the members may still produce, each counted up to a ceiling."""
        self._update_clipped()
        num_unclipped = len(self._members) - self._num_clipped
        return (
            self._remaining_base
            - num_unclipped * self.num_steps
            + self._num_clipped * MAX_EXPECTED_TOKENS
        )

    def num_expected_of(self, sequence: Sequence) -> int:
        """Return the part of one member."""
        return min(sequence.max_new_tokens - self.num_outputs(sequence), MAX_EXPECTED_TOKENS)

    def num_steps_to_finish(self) -> int:
        """Return after how many steps the next member ends. The set is not empty."""
        return self._next_finishing()[0] - self.num_steps

    def pop_finished(self) -> list[Sequence]:
        """Remove and return the members that have produced all they had to."""
        finished = []
        while self._members and self._next_finishing()[0] <= self.num_steps:
            sequence = heappop(self._finishing)[2]
            self.remove(sequence)
            finished.append(sequence)
        return finished

    def num_tokens_needed(self, num_steps: int) -> int:
        """Return the tokens of the pages that so many steps from here take."""
        page = self._page_tokens
        if page == 1:
            return num_steps * len(self._members)
        num_rounds, num_left = divmod(num_steps, page)
        begin = self.num_steps % page
        growing = self._num_growing
        num_pages = num_rounds * len(self._members) + sum(growing[begin : begin + num_left])
        if begin + num_left > page:
            num_pages += sum(growing[: begin + num_left - page])
        return num_pages * page

    def num_steps_within(self, num_tokens: int, most: int) -> int:
        """Return how many steps, up to `most`, find room in so many tokens."""
        num_members = len(self._members)
        page = self._page_tokens
        if num_members * (most + page) <= num_tokens:
            return most
        num_pages = num_tokens // page
        num_rounds = num_pages // num_members
        num_steps = num_rounds * page
        num_pages -= num_rounds * num_members
        # At most one round more: each member takes one page in a round.
        for step in range(self.num_steps, self.num_steps + page):
            num_pages -= self._num_growing[step % page]
            if num_pages < 0:
                break
            num_steps += 1
        return min(num_steps, most)

    def run(self, num_steps: int) -> None:
        """Count decode steps of all members."""
        self.num_steps += num_steps

    def _next_finishing(self) -> tuple[int, int, Sequence]:
        while True:
            entry = self._finishing[0]
            sequence = entry[2]
            is_member = self._members.get(sequence.request_id) is sequence
            if is_member and sequence.finish_step == entry[0]:
                return entry
            heappop(self._finishing)

    def _update_clipped(self) -> None:
        """Move those whose expected need has come below the ceiling."""
        heap = self._unclipping
        while heap and heap[0][0] <= self.num_steps:
            unclip_step, _, sequence = heappop(heap)
            if (
                sequence.is_clipped
                and sequence.max_new_tokens - MAX_EXPECTED_TOKENS - sequence.offset == unclip_step
            ):
                sequence.is_clipped = False
                self._num_clipped -= 1
                self._remaining_base += sequence.max_new_tokens - sequence.offset
