import math

import pytest
from support.scheduling import entry, plain_models, worker

from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.scheduler.worker_state import WorkerState


def accounts(state: WorkerState) -> tuple[object, ...]:
    return (
        state.num_running, state.context_tokens, state.kv_tokens, state.tightest_tpot_s,
        dict(state.prompts),
    )  # fmt: skip


def test_paired_calls_return_to_nothing() -> None:
    state = WorkerState(worker("w"), plain_models())
    empty = accounts(state)
    entries = [
        entry(
            sequence, num_prompt_tokens=50 + sequence, num_output_tokens=7, tpot_s=0.01 + sequence
        )
        for sequence in range(4)
    ]
    for added in entries:
        state.add_prompt(added, 0.0)
        state.add_running(added)
    assert state.num_running == 4
    assert state.kv_tokens == 50 + 51 + 52 + 53 + 4 * 7
    assert state.context_tokens == 50 + 51 + 52 + 53 + 4 * 3
    for added in entries:
        state.prompt_over(added, 1.0)
        state.running_over(added)
    assert accounts(state) == empty
    assert state.free_at_s == 1.0


def test_tightest_tpot_follows_who_is_there() -> None:
    state = WorkerState(worker("w"), plain_models())
    entries = [entry(0, tpot_s=0.05), entry(1, tpot_s=0.02), entry(2, tpot_s=0.02)]
    for added in entries:
        state.add_running(added)
    state.running_over(entries[1])
    assert state.tightest_tpot_s == 0.02
    state.running_over(entries[2])
    assert state.tightest_tpot_s == 0.05
    state.running_over(entries[0])
    assert state.tightest_tpot_s == math.inf


def test_prompts_follow_one_another() -> None:
    state = WorkerState(worker("w"), plain_models())
    state.add_prompt(entry(0, service_s=1.0), 10.0)
    state.add_prompt(entry(1, service_s=2.0), 10.5)
    assert state.free_at_s == 13.0
    # The first took longer than expected: the second begins when it ends.
    state.prompt_over(entry(0), 11.5)
    assert state.free_at_s == 13.5
    state.prompt_over(entry(0), 12.0)
    assert state.free_at_s == 13.5


def test_a_stranger_does_not_touch_the_accounts() -> None:
    state = WorkerState(worker("w"), plain_models())
    state.add_running(entry(0))
    before = accounts(state)
    state.running_over(entry(1))
    state.prompt_over(entry(1), 5.0)
    assert accounts(state) == before
    assert state.free_at_s == -math.inf


def test_pacing_ends_with_the_last_running_request() -> None:
    state = WorkerState(worker("w"), plain_models())
    state.add_running(entry(0))
    state.paced_until_s = 50.0
    state.running_over(entry(0))
    assert state.paced_until_s == -math.inf


def test_computed_prompts_are_summed_and_taken_once() -> None:
    state = WorkerState(worker("w"), plain_models())
    first, second = entry(0, num_prompt_tokens=100), entry(1, num_prompt_tokens=500)
    second.hit_tokens = {"w": 480, "other": 499}
    state.prompt_computed(first)
    state.prompt_computed(second)
    computed = state.take_computed()
    assert computed.num_tokens == 120
    expected = zip(PrefillModel.features(100, 0), PrefillModel.features(20, 480), strict=True)
    assert computed.features == tuple(a + b for a, b in expected)
    assert state.take_computed() == (0, None)


@pytest.mark.parametrize(
    ("num_prompt_tokens", "has_room"), [(390, True), (400, True), (401, False)]
)
def test_room_counts_what_all_will_fill_in_the_end(num_prompt_tokens: int, has_room: bool) -> None:
    state = WorkerState(worker("w", kv_capacity_tokens=1000), plain_models(), kv_fill=0.9)
    state.add_running(entry(0, num_prompt_tokens=300, num_output_tokens=100))
    candidate = entry(1, num_prompt_tokens=num_prompt_tokens, num_output_tokens=100)
    assert (candidate.kv_tokens <= state.room_tokens) is has_room


def test_a_single_request_always_has_room() -> None:
    state = WorkerState(worker("w", kv_capacity_tokens=100), plain_models())
    assert entry(0, num_prompt_tokens=5000).kv_tokens <= state.room_tokens
