import random

import pytest
from support.engine_rig import make_request

from hfx_sgl.engine.running import MAX_EXPECTED_TOKENS, RunningSet
from hfx_sgl.engine.sequence import Sequence, SequenceState


def make_sequence(
    name: str, prompt: int, num_output_tokens: int, *, max_new: int | None = None, produced: int = 1
) -> Sequence:
    request = make_request(name, prompt, num_output_tokens, max_new_tokens=max_new)
    sequence = Sequence(request, request.max_new_tokens, SequenceState.PREFILL, 0.0)
    sequence.num_outputs = produced
    return sequence


class Naive:
    """The same set, one step and one sequence at a time."""

    def __init__(self, page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self.members: dict[str, tuple[Sequence, int]] = {}

    def kv(self, sequence: Sequence, produced: int) -> int:
        return sequence.num_prompt_tokens + produced - 1

    def num_needed(self, num_steps: int) -> int:
        needed = 0
        for sequence, produced in self.members.values():
            begin = self.kv(sequence, produced)
            needed += sum(
                self.page_tokens
                for kv in range(begin, begin + num_steps)
                if kv % self.page_tokens == 0
            )
        return needed

    def step(self) -> list[str]:
        self.members = {name: (s, produced + 1) for name, (s, produced) in self.members.items()}
        done = [n for n, (s, produced) in self.members.items() if produced >= s.target_tokens]
        for name in done:
            del self.members[name]
        return done


@pytest.mark.parametrize("page_tokens", [1, 4, 16])
def test_it_counts_like_one_that_goes_step_by_step(page_tokens: int) -> None:
    rng = random.Random(page_tokens)
    running, naive = RunningSet(page_tokens), Naive(page_tokens)
    for index in range(300):
        if rng.random() < 0.6 or not len(running):
            sequence = make_sequence(
                f"r{index}",
                rng.randint(1, 50),
                rng.randint(30, 60),
                max_new=rng.choice([60, MAX_EXPECTED_TOKENS + 20]),
                produced=rng.randint(1, 20),
            )
            running.add(sequence)
            naive.members[sequence.request_id] = (sequence, sequence.num_outputs)
        elif rng.random() < 0.2:
            gone, produced = naive.members.pop(rng.choice(list(naive.members)))
            running.remove(gone)
            assert (gone.num_outputs, gone.num_kv_tokens) == (produced, naive.kv(gone, produced))
        assert len(running) == len(naive.members)
        if not len(running):
            continue
        assert running.num_kv_tokens == sum(naive.kv(*m) for m in naive.members.values())
        assert running.num_expected_tokens == sum(
            min(s.max_new_tokens - produced, MAX_EXPECTED_TOKENS)
            for s, produced in naive.members.values()
        )
        to_finish = min(s.target_tokens - produced for s, produced in naive.members.values())
        assert running.num_steps_to_finish() == to_finish
        room = rng.randint(0, 40) * page_tokens
        fitting = 0
        while fitting < to_finish and naive.num_needed(fitting + 1) <= room:
            fitting += 1
        assert running.num_steps_within(room, to_finish) == fitting
        num_steps = rng.randint(1, to_finish)
        assert running.num_tokens_needed(num_steps) == naive.num_needed(num_steps)
        running.run(num_steps)
        done = [name for _ in range(num_steps) for name in naive.step()]
        assert sorted(s.request_id for s in running.pop_finished()) == sorted(done)


def test_who_leaves_and_comes_back_ends_once() -> None:
    running = RunningSet(1)
    sequence = make_sequence("a", 10, 5)
    running.add(sequence)
    running.remove(sequence)
    running.add(sequence)
    running.run(4)
    assert running.pop_finished() == [sequence]
    assert running.pop_finished() == []


def test_outputs_are_written_back() -> None:
    running = RunningSet(1)
    sequence = make_sequence("a", 10, 9, produced=2)
    running.add(sequence)
    running.run(3)
    assert running.num_outputs(sequence) == 5
    assert running.num_expected_of(sequence) == 4
    running.update_outputs()
    assert sequence.num_outputs == 5
    assert list(running) == [sequence]
