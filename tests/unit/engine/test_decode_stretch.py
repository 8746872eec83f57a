import math
from itertools import pairwise

import pytest
from support.engine_rig import make_spec
from support.linear_step_times import LinearStepTimes

from hfx_sgl.engine.steps import DecodeStretch

START_S = 10.0


def make_stretch(num_steps: int = 8) -> DecodeStretch:
    return DecodeStretch(
        LinearStepTimes(make_spec()),
        start_s=START_S,
        num_running=3,
        num_context_tokens=300,
        num_steps=num_steps,
        overhead_s=1 / 256,
    )


def ends() -> list[float]:
    stretch = make_stretch(9)
    return [START_S] + [stretch.step_end_s(n) for n in range(1, 9)]


def test_steps_get_longer_as_the_context_grows() -> None:
    lengths = [after - before for before, after in pairwise(ends())]
    assert lengths[0] == 1 / 128 + 3 / 2048 + 300 / 65536 + 1 / 256
    assert {b - a for a, b in pairwise(lengths)} == {3 / 65536}
    assert make_stretch().end_s == ends()[8]


@pytest.mark.parametrize("num_ended", range(8))
@pytest.mark.parametrize("is_exact", [True, False])
def test_ended_steps_are_counted_from_any_instant(num_ended: int, is_exact: bool) -> None:
    now_s = ends()[num_ended] if is_exact else math.nextafter(ends()[num_ended + 1], 0.0)
    stretch = make_stretch()
    assert stretch.num_ended(now_s) == num_ended
    assert stretch.next_end_s == ends()[num_ended + 1]


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_ended_steps_are_counted_on_the_way(stride: int) -> None:
    stretch = make_stretch()
    assert stretch.next_end_s == ends()[1]
    for num_ended in range(stride, 9, stride):
        stretch.num_done = stretch.num_ended(ends()[num_ended])
        assert stretch.num_done == num_ended


def test_a_cut_ends_it_with_the_step_under_way() -> None:
    stretch = make_stretch()
    stretch.num_done = stretch.num_ended(ends()[3] + 1 / 1024)
    stretch.cut()
    assert (stretch.num_steps, stretch.end_s) == (4, ends()[4])
    stretch.cut()
    assert stretch.num_ended(stretch.end_s) == 4
