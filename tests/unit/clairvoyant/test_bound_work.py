"""Least work: below every step that an engine can make, and not far below the best ones."""

import pytest
from clairvoyant.work import (
    DecodeDemand,
    DecodeWork,
    PrefillWork,
    fit_decode,
    fit_prefill,
)
from hypothesis import given
from hypothesis import strategies as st

from hfx_sgl.engine.profile import DEFAULT_PROFILE, load_profile, profile_names
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.types import Role

PROFILES = {name: load_profile(name) for name in profile_names()}
SPECS = {name: profile.make_spec(Role.PREFILL) for name, profile in PROFILES.items()}
DEMANDS = [
    DecodeDemand(
        num_prompt_tokens=prompt, num_output_tokens=200, num_held_tokens=prompt + 512,
        held_before_s=0.1,
    )
    for prompt in (300, 1_000, 4_000)
]  # fmt: skip
PREFILL = {
    name: fit_prefill(profile.step_times, SPECS[name], [(1_000, 0), (400, 3_000), (80, 9_000)])
    for name, profile in PROFILES.items()
}
DECODE = {
    name: fit_decode(
        profile.step_times, SPECS[name], DEMANDS, num_reserved_tokens=512, is_kv_shared=False
    )
    for name, profile in PROFILES.items()
}
SHARED_DECODE = {
    name: fit_decode(
        profile.step_times, SPECS[name], DEMANDS, num_reserved_tokens=0, is_kv_shared=True
    )
    for name, profile in PROFILES.items()
}
names = st.sampled_from(sorted(PROFILES))


@st.composite
def batches(draw: st.DrawFn) -> list[PrefillPart]:
    """Prompts of one step: at most 8,192 new tokens."""
    left = 8_192
    parts = []
    for _ in range(draw(st.integers(1, 40))):
        num_new = draw(st.integers(1, max(1, min(left, draw(st.sampled_from((16, 600, 8_192)))))))
        left -= num_new
        parts.append(PrefillPart(num_new, draw(st.integers(0, 30_000))))
        if left < 1:
            break
    return parts


def _prefill_step_s(name: str, parts: list[PrefillPart]) -> float:
    spec = SPECS[name]
    overhead_s = spec.host_overhead_s + len(parts) * spec.host_overhead_per_request_s
    return PROFILES[name].step_times.prefill_s(parts) + overhead_s


@given(names, batches())
def test_a_prefill_step_takes_at_least_the_work_in_it(name: str, parts: list[PrefillPart]) -> None:
    work_s = sum(PREFILL[name].seconds(*part) for part in parts)
    assert work_s <= _prefill_step_s(name, parts)


@given(names, st.integers(2, 16_000), st.integers(0, 16_000), st.floats(0.001, 0.999))
def test_cutting_a_prompt_never_makes_it_cheaper(
    name: str, num_new: int, num_prefix: int, at: float
) -> None:
    work = PREFILL[name]
    first = max(1, int(at * num_new))
    cut_s = work.seconds(first, num_prefix) + work.seconds(num_new - first, num_prefix + first)
    assert work.seconds(num_new, num_prefix) <= cut_s + 1e-12


@given(names, st.integers(0, 5_000), st.integers(1, 25_000), st.floats(0.0, 1.0))
def test_a_miss_costs_no_more_than_it_must(
    name: str, num_own: int, num_shared: int, missed: float
) -> None:
    work = PREFILL[name]
    total = num_own + num_shared
    num_missed = round(missed * num_shared)
    said_s = work.seconds(num_own, num_shared) + num_missed * work.per_miss_s(num_own, total)
    assert said_s <= work.seconds(num_own + num_missed, num_shared - num_missed) + 1e-12


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_best_prefill_batch_takes_little_more(name: str) -> None:
    parts = [PrefillPart(1_024, 0)] * 8
    work_s = sum(PREFILL[name].seconds(*part) for part in parts)
    assert work_s >= 0.93 * _prefill_step_s(name, parts)


@st.composite
def decode_batches(draw: st.DrawFn, capacity: int) -> list[tuple[int, int]]:
    """Prompt and produced tokens of requests that fit beside one another with their reserve."""
    left = capacity
    batch = []
    most = draw(st.sampled_from((200, 2_000, 20_000)))
    for _ in range(draw(st.integers(1, 256))):
        prompt = draw(st.integers(1, most))
        if prompt + 512 > left:
            break
        left -= prompt + 512
        batch.append((prompt, draw(st.integers(1, 199))))
    return batch


def _decode_step_s(name: str, batch: list[tuple[int, int]]) -> float:
    spec = SPECS[name]
    num_context = sum(prompt + num_out - 1 for prompt, num_out in batch)
    overhead_s = spec.host_overhead_s + len(batch) * spec.host_overhead_per_request_s
    return PROFILES[name].step_times.decode_s(len(batch), num_context) + overhead_s


def _decode_step_work_s(work: DecodeWork, batch: list[tuple[int, int]], reserve: int) -> float:
    return sum(
        work.per_token_s
        + work.per_context_s * (prompt + num_out - 1)
        + work.per_held_s * (prompt + reserve)
        for prompt, num_out in batch
    )


@given(st.data(), names, st.floats(0.0, 1.0))
def test_a_decode_step_takes_at_least_the_work_in_it_and_the_room_that_others_wait_in(
    data: st.DataObject, name: str, waiting: float
) -> None:
    capacity = SPECS[name].kv_capacity_tokens
    batch = data.draw(decode_batches(capacity))
    if not batch:
        return
    work = DECODE[name]
    step_s = _decode_step_s(name, batch)
    room = waiting * (capacity - sum(prompt + 512 for prompt, _ in batch))
    work_s = _decode_step_work_s(work, batch, 512) + work.per_token_second * room * step_s
    assert work_s <= step_s
    assert _decode_step_work_s(SHARED_DECODE[name], batch, 0) <= step_s
    assert work.per_token_second * capacity <= 1.0


def test_a_decode_step_that_fills_the_memory_takes_little_more() -> None:
    name = DEFAULT_PROFILE
    num_running = min(256, SPECS[name].kv_capacity_tokens // 2_312)
    batch = [(1_700, 100)] * num_running
    work_s = _decode_step_work_s(DECODE[name], batch, 512)
    assert work_s >= 0.9 * _decode_step_s(name, batch)


def test_the_work_of_a_request_is_that_of_its_steps() -> None:
    work = DecodeWork(per_token_s=1.0, per_context_s=0.01, per_held_s=0.1, per_token_second=0.5)
    demand = DecodeDemand(
        num_prompt_tokens=10, num_output_tokens=4, num_held_tokens=20, held_before_s=2.0
    )
    assert work.seconds(demand) == pytest.approx(3 * (1.0 + 2.0) + 0.01 * (10 + 11 + 12))
    assert work.before_s(demand) == pytest.approx(20.0)


def test_prefill_work_counts_tokens_squares_and_the_prefix() -> None:
    work = PrefillWork(
        prefix_knots=(0.0, 100.0), per_token_s=(1.0, 2.0), per_square_s=0.001, per_request_s=5.0
    )
    assert work.seconds(10, 50) == pytest.approx(10 * 1.5 + 0.1 + 5.0)
    assert work.per_miss_s(0, 100) == pytest.approx((100 + 10.0) / 100)
