import random
from typing import Any

import pytest

from hfx_sgl.policy.retry import (
    BUDGET_MEMORY_REQUESTS,
    PD_RETRYABLE_STATUSES,
    RetryBudget,
    RetryConfig,
    backoff_s,
    may_retry,
)

CONFIG = RetryConfig(max_attempts=4)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, True),
        ({"num_attempts": 3}, True),
        ({"num_attempts": 4}, False),
        ({"num_attempts": 2, "num_lost": 1}, True),
        ({"num_attempts": 2, "num_lost": 2}, False),
        ({"has_answered": True}, False),
        ({"status": 503}, True),
        ({"status": 408}, True),
        ({"status": 429}, True),
        ({"status": 502}, True),
        ({"status": 504}, True),
        ({"status": 500}, False),
        ({"status": 400}, False),
        ({"status": 501}, False),
        ({"status": 500, "retryable": PD_RETRYABLE_STATUSES}, True),
        ({"status": 503, "retryable": PD_RETRYABLE_STATUSES}, True),
        ({"status": 400, "retryable": PD_RETRYABLE_STATUSES}, False),
    ],
)
def test_may_retry(facts: dict[str, Any], expected: bool) -> None:
    first_failure = {"num_attempts": 1, "num_lost": 0, "status": None, "has_answered": False}
    assert may_retry(CONFIG, **{**first_failure, **facts}) is expected


def test_one_attempt_means_no_retry() -> None:
    config = RetryConfig(max_attempts=1)
    assert not may_retry(config, num_attempts=1, num_lost=0, status=503, has_answered=False)


@pytest.mark.parametrize(
    ("attempt", "expected_s"), [(2, 0.1), (3, 0.2), (4, 0.4), (5, 0.5), (6, 0.5), (100_000, 0.5)]
)
def test_backoff_grows_up_to_its_maximum(attempt: int, expected_s: float) -> None:
    config = RetryConfig(
        initial_backoff_s=0.1, backoff_multiplier=2.0, max_backoff_s=0.5, jitter_ratio=0.0
    )
    assert backoff_s(config, attempt, random.Random(1)) == pytest.approx(expected_s)


def test_backoff_uses_the_whole_jitter_range() -> None:
    config = RetryConfig(initial_backoff_s=1.0, jitter_ratio=0.2)
    rng = random.Random(1)
    waits_s = [backoff_s(config, 2, rng) for _ in range(1000)]
    assert 0.8 <= min(waits_s) < 0.82
    assert 1.18 < max(waits_s) <= 1.2


def test_backoff_of_nothing_stays_nothing() -> None:
    config = RetryConfig(initial_backoff_s=0.0)
    rng = random.Random(1)
    assert [backoff_s(config, attempt, rng) for attempt in (2, 100_000)] == [0.0, 0.0]


def test_backoff_refuses_the_first_attempt() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        backoff_s(CONFIG, 1, random.Random(1))


def withdrawals(budget: RetryBudget) -> int:
    num = 0
    while budget.withdraw():
        num += 1
    return num


def test_budget_grants_its_reserve_before_any_request() -> None:
    assert withdrawals(RetryBudget(RetryConfig(budget_min_retries=3))) == 3


def test_budget_grows_by_its_share_of_requests() -> None:
    budget = RetryBudget(RetryConfig(budget_ratio=0.25, budget_min_retries=0))
    for _ in range(3):
        budget.deposit()
    assert withdrawals(budget) == 0
    for _ in range(5):
        budget.deposit()
    assert withdrawals(budget) == 2


def test_spent_reserve_refills_with_requests() -> None:
    budget = RetryBudget(RetryConfig(budget_ratio=0.5, budget_min_retries=2))
    assert withdrawals(budget) == 2
    for _ in range(4):
        budget.deposit()
    assert withdrawals(budget) == 2


def test_budget_forgets_what_a_long_calm_did_not_use() -> None:
    budget = RetryBudget(RetryConfig(budget_ratio=0.5, budget_min_retries=1))
    for _ in range(3 * BUDGET_MEMORY_REQUESTS):
        budget.deposit()
    assert withdrawals(budget) == 1 + BUDGET_MEMORY_REQUESTS // 2


def test_budget_of_nothing_grants_nothing() -> None:
    budget = RetryBudget(RetryConfig(budget_ratio=0.0, budget_min_retries=0))
    budget.deposit()
    assert not budget.withdraw()
