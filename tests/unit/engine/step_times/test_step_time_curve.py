"""Curves of step times: values, sums over consecutive steps, and the inverse of the sums."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfx_sgl.engine.step_times.curve import Curve

POINTS = [(4, 2.0), (8, 4.0), (16, 3.0), (20, 5.0)]

seconds = st.floats(1e-4, 1.0)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    xs = sorted(draw(st.sets(st.integers(1, 60), min_size=2, max_size=6)))
    return Curve([(x, draw(seconds)) for x in xs])


@pytest.mark.parametrize(
    ("x", "expected"),
    [(0, 2.0), (3.9, 2.0), (4, 2.0), (6, 3.0), (8, 4.0), (12, 3.5), (20, 5.0), (24, 7.0)],
)
def test_a_curve_is_linear_between_its_points_flat_before_and_goes_on_after(
    x: float, expected: float
) -> None:
    assert Curve(POINTS).at(x) == expected


def test_a_curve_that_ends_falling_goes_on_flat() -> None:
    assert Curve([(0, 5.0), (10, 4.0)]).at(100) == 4.0


def test_sums_of_a_known_curve() -> None:
    curve = Curve([(0, 1.0), (10, 11.0)])
    assert curve.sum_steps(0, 0) == 0.0
    assert curve.sum_steps(0, 4) == 1.0 + 2.0 + 3.0 + 4.0
    assert curve.sum_steps(2, 1000) == sum(range(3, 1003))


@given(curve=curves(), tokens=st.integers(1, 400), running=st.integers(1, 7), n=st.integers(0, 150))
def test_a_sum_is_that_of_its_terms(curve: Curve, tokens: int, running: int, n: int) -> None:
    x = tokens / running
    assert curve.sum_steps(x, n) == pytest.approx(sum(curve.at(x + i) for i in range(n)))


@given(
    curve=curves(),
    tokens=st.integers(1, 400),
    running=st.integers(1, 7),
    extra=st.floats(0, 0.01),
    limit=st.floats(0, 5.0),
)
def test_steps_within_a_limit_are_the_most_that_fit(
    curve: Curve, tokens: int, running: int, extra: float, limit: float
) -> None:
    x = tokens / running
    n = curve.steps_within(x, extra, limit)
    assert n >= 0
    assert n == 0 or curve.sum_steps(x, n) + n * extra <= limit
    assert curve.sum_steps(x, n + 1) + (n + 1) * extra > limit


@given(curve=curves(), tokens=st.integers(1, 400), n=st.integers(1, 300), extra=st.floats(0, 0.01))
def test_a_limit_of_just_n_steps_holds_n(curve: Curve, tokens: int, n: int, extra: float) -> None:
    limit = curve.sum_steps(tokens, n) + n * extra
    assert curve.steps_within(tokens, extra, limit) == n


def test_nothing_fits_into_next_to_no_time() -> None:
    steep = Curve([(1, 1e-3), (2, 1.0)])
    assert steep.steps_within(1, 0.0, 2.2e-313) == 0


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_nothing_fits_into_no_time(limit: float) -> None:
    assert Curve(POINTS).steps_within(5, 0.0, limit) == 0
