"""The number for engines that schedule by priority."""

import math
from itertools import pairwise

import pytest
from support.scheduling import MARGIN_S, UNIFIED, dispatched, plain_scheduler, request


def priority(slack_s: float) -> int:
    """Return that of a request with so much time to spare."""
    scheduler = plain_scheduler(UNIFIED)
    scheduler.arrive(request("a", 1000, ttft_s=1.0 + MARGIN_S + slack_s))
    (dispatch,) = dispatched(scheduler, 0.0)
    return dispatch.priority


@pytest.mark.parametrize(
    ("slack_s", "expected"),
    [
        (-1.0, 0),
        (-0.001, 0),
        (0.001, 9),
        (0.049, 9),
        (0.051, 8),
        (0.151, 7),
        (1.0, 5),
        (12.7, 2),
        (30.0, 1),
        (1000.0, 1),
        (math.inf, 1),
    ],
)
def test_priority_by_slack(slack_s: float, expected: int) -> None:
    assert priority(slack_s) == expected


def test_more_time_never_means_more_urgent_and_no_two_are_ten_apart() -> None:
    # SGLang 0.5.23 takes back what runs for something that is more urgent by more than ten.
    found = [priority(0.001 * 1.3**n) for n in range(50)]
    assert all(sooner >= later for sooner, later in pairwise(found))
    assert set(found) == set(range(1, 10))
    assert priority(-1.0) == 0
