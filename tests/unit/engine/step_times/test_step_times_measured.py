"""Step times from measured rows: exact at the rows, the stated formulas between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfx_sgl.engine.step_times.measured import MeasuredStepTimes
from hfx_sgl.engine.step_times.rows import Row
from hfx_sgl.engine.step_times.times import PrefillPart


def rows(*cells: tuple[float, ...]) -> list[Row]:
    return [Row(0, tuple(int(value) for value in cell[:-1]), cell[-1]) for cell in cells]


PREFILL = rows(
    (1, 1, 0, 8),
    (1, 1000, 0, 20),
    (1, 2000, 0, 40),
    (1, 4000, 0, 100),
    (1, 1, 1000, 8),
    (1, 1000, 1000, 24),
    (1, 2000, 1000, 50),
    (1, 1, 3000, 9),
    (1, 1000, 3000, 30),
    (2, 500, 0, 19),
    (2, 1000, 0, 38),
    (2, 2000, 0, 90),
    (4, 250, 0, 18.5),
    (4, 500, 0, 37),
)
DECODE = rows(
    (1, 100, 6),
    (1, 1000, 7),
    (1, 5000, 8),
    (10, 100, 8),
    (10, 1000, 10),
    (10, 5000, 20),
    (20, 100, 9),
    (20, 1000, 13),
)
MIXED = rows(
    (1, 1000, 0, 1, 1000, 22),
    (1, 1000, 0, 10, 1000, 23),
    (2, 1000, 0, 1, 1000, 41),
    (2, 1000, 0, 10, 1000, 43),
)

lengths = st.integers(1, 4000)


def times() -> MeasuredStepTimes:
    return MeasuredStepTimes(PREFILL, DECODE, MIXED)


def prefill_ms(*parts: tuple[int, int]) -> float:
    return times().prefill_s([PrefillPart(*part) for part in parts]) * 1e3


@pytest.mark.parametrize("row", PREFILL, ids=lambda row: str(row.key))
def test_a_measured_prefill_step_takes_what_was_measured(row: Row) -> None:
    num_prompts, num_new, num_prefix = row.key
    assert prefill_ms(*[(num_new, num_prefix)] * num_prompts) == pytest.approx(row.latency_ms)


@pytest.mark.parametrize("row", DECODE, ids=lambda row: str(row.key))
def test_a_measured_decode_step_takes_what_was_measured(row: Row) -> None:
    num_running, context = row.key
    assert times().decode_s(num_running, num_running * context) == row.latency_ms / 1e3


@pytest.mark.parametrize("row", MIXED, ids=lambda row: str(row.key))
def test_a_measured_mixed_step_takes_what_was_measured(row: Row) -> None:
    num_prompts, num_new, num_prefix, num_running, context = row.key
    parts = [PrefillPart(num_new, num_prefix)] * num_prompts
    mixed_s = times().mixed_s(parts, num_running, num_running * context)
    assert mixed_s == pytest.approx(row.latency_ms / 1e3)


@pytest.mark.parametrize(
    ("num_new", "num_prefix", "expected_ms"),
    [
        (1500, 0, 30),
        (1000, 500, 22),
        (1500, 500, (30 + 37) / 2),
        (1500, 2000, (37 + 40.5) / 2),
        (1000, 5000, 36),
        (6000, 0, 160),
    ],
)
def test_one_prompt_is_bilinear_and_goes_on_linearly(
    num_new: int, num_prefix: int, expected_ms: float
) -> None:
    assert prefill_ms((num_new, num_prefix)) == pytest.approx(expected_ms, rel=1e-3)


def test_prompts_of_different_lengths_lie_between_one_prompt_and_as_many_equal_ones() -> None:
    # 1500^2 + 500^2 = 0.625 * 2000^2: a quarter of the way from two equal prompts to one.
    assert prefill_ms((1500, 0), (500, 0)) == pytest.approx(38 + (40 - 38) * 0.25)


def test_more_prompts_than_measured_go_on_in_the_inverse_of_their_number() -> None:
    step_times = times()
    time_s = step_times.prefill_s([PrefillPart(250, 0)] * 8)
    assert time_s * 1e3 == pytest.approx(37 - (38 - 37) / 2)
    assert step_times.num_extrapolated == 1


def test_a_prefix_adds_the_share_of_its_prompt() -> None:
    # Half of the 2000 new tokens sit behind a prefix that would add 10 ms to one such prompt.
    assert prefill_ms((1000, 1000), (1000, 0)) == pytest.approx(38 + 10 / 2)


@given(lengths, st.lists(st.tuples(lengths, st.integers(0, 3000)), max_size=20))
def test_a_prefill_step_takes_no_less_than_the_shortest_measured(
    first: int, others: list[tuple[int, int]]
) -> None:
    assert prefill_ms((first, 0), *others) >= 8


@pytest.mark.parametrize(
    ("num_running", "context", "expected_ms"),
    [
        (10, 550, 9),
        (10, 0, 8),
        (10, 9000, 30),
        (15, 100, 8.5),
        (15, 550, (8.5 + 11.5) / 2),
        (30, 100, 10),
        (30, 1000, 16),
    ],
)
def test_decode_is_bilinear_flat_below_and_goes_on_linearly(
    num_running: int, context: int, expected_ms: float
) -> None:
    time_s = times().decode_s(num_running, num_running * context)
    assert time_s * 1e3 == pytest.approx(expected_ms)


def test_fewer_running_than_measured_take_the_row_of_the_fewest() -> None:
    fewer = MeasuredStepTimes(PREFILL, [row for row in DECODE if row.key[0] > 1])
    assert fewer.decode_s(3, 300) == 0.008


@given(st.integers(1, 40), st.integers(0, 6000), st.integers(0, 200))
def test_decode_steps_take_the_sum_of_their_times(
    num_running: int, context: int, num_steps: int
) -> None:
    step_times = times()
    total = num_running * context
    expected = sum(
        step_times.decode_s(num_running, total + i * num_running) for i in range(num_steps)
    )
    assert step_times.decode_steps_s(num_running, total, num_steps) == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 100_000), st.floats(0, 0.01), st.floats(0, 2))
def test_decode_steps_within_a_duration_are_the_most_that_fit(
    num_running: int, total: int, overhead_s: float, duration_s: float
) -> None:
    step_times = times()
    n = step_times.decode_steps_within(num_running, total, overhead_s, duration_s)
    assert step_times.decode_steps_s(num_running, total, n) + n * overhead_s <= duration_s
    more_s = step_times.decode_steps_s(num_running, total, n + 1) + (n + 1) * overhead_s
    assert more_s > duration_s


def test_a_mixed_step_with_less_context_takes_as_much_less_as_its_decode_step() -> None:
    mixed_s = times().mixed_s([PrefillPart(1000, 0)], 10, 5500)
    assert mixed_s * 1e3 == pytest.approx(23 - (10 - 9))


def test_a_mixed_step_without_rows_takes_running_requests_for_new_tokens() -> None:
    step_times = MeasuredStepTimes(PREFILL, DECODE)
    mixed_s = step_times.mixed_s([PrefillPart(1000, 0)], 10, 10_000)
    assert mixed_s * 1e3 == pytest.approx(20 + 10 * 20 / 1000 + (10 - 8))
    assert step_times.num_extrapolated == 1


def test_a_mixed_step_without_running_requests_is_a_prefill_step() -> None:
    assert times().mixed_s([PrefillPart(1000, 0)], 0, 0) == 0.020


@given(lengths, st.integers(0, 3000), st.integers(1, 40), st.integers(1, 6000))
def test_a_mixed_step_takes_no_less_than_either_half(
    num_new: int, num_prefix: int, num_running: int, context: int
) -> None:
    step_times = times()
    parts = [PrefillPart(num_new, num_prefix)]
    mixed_s = step_times.mixed_s(parts, num_running, num_running * context)
    assert mixed_s >= step_times.prefill_s(parts)
    assert mixed_s >= step_times.decode_s(num_running, num_running * context)


def test_a_correction_that_would_make_a_mixed_step_too_short_is_cut() -> None:
    step_times = MeasuredStepTimes(PREFILL, DECODE, rows((1, 1000, 0, 1, 1000, 1)))
    assert step_times.mixed_s([PrefillPart(1000, 0)], 1, 1000) == 0.020


@pytest.mark.parametrize(
    ("parts", "is_counted"),
    [
        ([(4000, 0)], False),
        ([(4001, 0)], True),
        ([(1, 3000)], False),
        ([(1, 3001)], True),
        ([(1001, 3000)], True),
        ([(1001, 1001)], True),
        ([(2000, 0), (2000, 0)], False),
        ([(2001, 0), (2001, 0)], True),
        ([(900, 0), (100, 3000)], False),
        ([(900, 0), (101, 3000)], True),
    ],
)
def test_prefill_steps_beyond_the_rows_are_counted_once(
    parts: list[tuple[int, int]], is_counted: bool
) -> None:
    step_times = times()
    step_times.prefill_s([PrefillPart(*part) for part in parts])
    assert step_times.num_extrapolated == is_counted


@pytest.mark.parametrize(
    ("num_running", "context", "num_steps", "is_counted"),
    [
        (10, 10, 1, False),
        (10, 4990, 11, False),
        (10, 4990, 12, True),
        (20, 1001, 1, True),
        (21, 100, 1, True),
    ],
)
def test_decode_steps_beyond_the_rows_are_counted_once(
    num_running: int, context: int, num_steps: int, is_counted: bool
) -> None:
    step_times = times()
    duration_s = step_times.decode_steps_s(num_running, num_running * context, num_steps)
    assert step_times.num_extrapolated == is_counted
    again = times()
    n = again.decode_steps_within(num_running, num_running * context, 0.0, duration_s)
    assert (n, again.num_extrapolated) == (num_steps, is_counted)
    last = times()
    last.decode_s(num_running, num_running * (context + num_steps - 1))
    assert last.num_extrapolated == is_counted


@pytest.mark.parametrize(
    ("num_new", "num_running", "context", "is_counted"),
    [
        (2000, 10, 5000, False),
        (1, 1, 0, False),
        (2001, 1, 100, True),
        (1000, 11, 100, True),
        (9000, 30, 9000, True),
    ],
)
def test_mixed_steps_beyond_the_rows_are_counted_once(
    num_new: int, num_running: int, context: int, is_counted: bool
) -> None:
    step_times = times()
    step_times.mixed_s([PrefillPart(num_new, 0)], num_running, num_running * context)
    assert step_times.num_extrapolated == is_counted


def test_without_prefixes_or_batches_measured_such_steps_are_counted() -> None:
    plain = [row for row in PREFILL if row.key[0] == 1 and row.key[2] == 0]
    step_times = MeasuredStepTimes(plain, DECODE)
    assert step_times.prefill_s([PrefillPart(1000, 500)]) == 0.020
    assert step_times.prefill_s([PrefillPart(500, 0)] * 2) == 0.020
    assert step_times.num_extrapolated == 2
