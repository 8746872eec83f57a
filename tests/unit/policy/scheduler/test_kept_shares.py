"""Who counts for more because its promises were kept less often than others'."""

from itertools import pairwise

import pytest
from support.scheduling import request

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.fairness import KeptShares


def entry(class_name: str = "chat", tenant: str = "") -> Entry:
    return Entry(request("r", class_name=class_name, tenant=tenant), 0, 1.0, 1)


def count(
    shares: KeptShares, num_entries: int, class_name: str, tenant: str = "", *, is_kept: bool
) -> None:
    for _ in range(num_entries):
        shares.count(entry(class_name, tenant), is_kept=is_kept)


def weight(shares: KeptShares, class_name: str = "chat", tenant: str = "") -> float:
    return shares.weight(request("r", class_name=class_name, tenant=tenant))


def test_at_first_all_count_the_same() -> None:
    assert weight(KeptShares(1.0), "chat", "somebody") == 1.0


def test_a_class_that_falls_behind_counts_for_more() -> None:
    shares = KeptShares(0.6)
    count(shares, 200, "chat", is_kept=True)
    count(shares, 50, "summarize", is_kept=False)
    assert weight(shares, "summarize") > 2.0
    assert weight(shares, "chat") == weight(shares, "unheard of") == 1.0


def test_the_further_behind_the_more() -> None:
    weights = []
    for num_missed in (20, 40, 60, 80):
        shares = KeptShares(0.9)
        count(shares, num_missed, "summarize", is_kept=False)
        weights.append(weight(shares, "summarize"))
    assert all(more > less for less, more in pairwise(weights))


def test_a_tenant_that_falls_behind_counts_for_more_and_its_class_does_not() -> None:
    shares = KeptShares(0.6)
    for _ in range(50):
        count(shares, 4, "chat", "others", is_kept=True)
        count(shares, 1, "chat", "poor", is_kept=False)
    assert weight(shares, "chat", "poor") > 2.0
    assert weight(shares, "chat", "others") == weight(shares, "chat") == 1.0
    assert weight(shares, "poor") == 1.0  # a class of that name is another group


def test_the_one_that_is_further_behind_counts_of_class_and_tenant() -> None:
    shares = KeptShares(0.9)
    count(shares, 20, "chat", "well off", is_kept=True)
    count(shares, 30, "summarize", is_kept=False)
    count(shares, 60, "chat", "poor", is_kept=False)
    of_class = weight(shares, "summarize", "well off")
    assert of_class == weight(shares, "summarize") > 1.0
    assert weight(shares, "summarize", "poor") > of_class


@pytest.mark.parametrize(("fairness", "is_raised"), [(0.0, False), (0.5, False), (0.9, True)])
def test_how_far_behind_is_too_far_is_a_setting(fairness: float, is_raised: bool) -> None:
    shares = KeptShares(fairness)
    count(shares, 20, "summarize", is_kept=False)  # about two thirds are left
    assert (weight(shares, "summarize") > 1.0) is is_raised


def test_without_fairness_nobody_counts_for_more_whatever_happens() -> None:
    shares = KeptShares(0.0)
    count(shares, 1000, "summarize", is_kept=False)
    assert weight(shares, "summarize") == 1.0


def test_an_old_miss_is_forgotten_once_nobody_is_given_up() -> None:
    shares = KeptShares(1.0)
    count(shares, 1, "rare", is_kept=False)
    count(shares, 20, "chat", is_kept=True)
    assert weight(shares, "rare") > 1.0
    count(shares, 500, "chat", is_kept=True)
    assert weight(shares, "rare") == 1.0


def test_who_is_kept_again_counts_like_others_again() -> None:
    shares = KeptShares(0.6)
    count(shares, 60, "summarize", is_kept=False)
    assert weight(shares, "summarize") > 1.0
    count(shares, 60, "summarize", is_kept=True)
    assert weight(shares, "summarize") == 1.0


def test_what_is_said_first_about_a_request_counts() -> None:
    shares = KeptShares(1.0)
    told_twice = entry("summarize")
    for _ in range(50):
        shares.count(told_twice, is_kept=True)
        shares.count(told_twice, is_kept=False)
    assert weight(shares, "summarize") == 1.0


def test_only_the_latest_thousand_are_remembered() -> None:
    shares = KeptShares(0.9)
    for tenant in ("gone", "here"):
        count(shares, 50, "chat", tenant, is_kept=False)
    for number in range(2000):
        count(shares, 1, "chat", f"t{number}", is_kept=True)
        if number % 100 == 0:
            count(shares, 1, "chat", "here", is_kept=False)
    assert weight(shares, "other", "gone") == 1.0
    assert weight(shares, "other", "here") > 1.0
