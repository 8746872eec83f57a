"""Attainment as a function of load: where it falls below a level."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

STEPS_PER_LOAD = 10
"""Loads are searched to a tenth."""


class Sustained(NamedTuple):
    """Up to which load a level is kept."""

    load_factor: float
    is_beyond: bool
    """The level is kept at every load that was tried, this one being the highest."""

    def __str__(self) -> str:
        return f"{'over ' if self.is_beyond else ''}{self.load_factor:.2f}x"


def sustained_load(points: Sequence[tuple[float, float]], level: float) -> Sustained:
    """Return where a curve first crosses a level, on straight lines between its points.

    Args:
        points: load factors and attainments, in order of load; at least one.
        level: the attainment to keep.

    A curve that is below the level from the first point on is taken to have come there in
    proportion to the load.
    """
    before_load, before = 0.0, 1.0
    for load_factor, attainment in points:
        if attainment < level:
            share = (before - level) / (before - attainment)
            return Sustained(before_load + share * (load_factor - before_load), False)
        before_load, before = load_factor, attainment
    return Sustained(before_load, True)


def first_load(is_under: Callable[[float], bool], low: float, high: float) -> float:
    """Return the lowest load, to a tenth, at which something holds, by bisection.

    Args:
        is_under: whether it holds at a load.
        low: where it does not hold.
        high: where it does.
    """
    below, above = round(low * STEPS_PER_LOAD), round(high * STEPS_PER_LOAD)
    while above - below > 1:
        middle = (below + above) // 2
        if is_under(middle / STEPS_PER_LOAD):
            above = middle
        else:
            below = middle
    return above / STEPS_PER_LOAD
