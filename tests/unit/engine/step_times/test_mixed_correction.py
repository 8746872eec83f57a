"""The correction of mixed steps over new tokens and running requests."""

import pytest

from hfx_sgl.engine.step_times.correction import Correction

CELLS = {(100, 1): 1.0, (100, 5): 3.0, (300, 1): 5.0, (300, 5): 11.0}


@pytest.mark.parametrize(
    ("num_new", "num_running", "expected"),
    [
        (100, 1, 1.0),
        (300, 5, 11.0),
        (100, 3, 2.0),
        (200, 1, 3.0),
        (200, 3, 5.0),
        (1, 1, 1.0),
        (999, 5, 11.0),
        (300, 99, 11.0),
    ],
)
def test_it_is_bilinear_and_constant_beyond(
    num_new: int, num_running: int, expected: float
) -> None:
    assert Correction(CELLS).at(num_new, num_running) == expected


@pytest.mark.parametrize(
    ("num_new", "num_running", "expected"),
    [(300, 5, False), (1, 1, False), (301, 1, True), (1, 6, True)],
)
def test_it_knows_how_far_it_was_measured(num_new: int, num_running: int, expected: bool) -> None:
    assert Correction(CELLS).is_outside(num_new, num_running) is expected


def test_without_cells_it_is_nothing_and_always_outside() -> None:
    assert Correction({}).at(1, 1) == 0.0
    assert Correction({}).is_outside(1, 1)
