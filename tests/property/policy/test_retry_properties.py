import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.retry import (
    BUDGET_MEMORY_REQUESTS,
    MAX_LOST_ATTEMPTS,
    PD_RETRYABLE_STATUSES,
    RetryBudget,
    RetryConfig,
    backoff_s,
    may_retry,
)


@settings(max_examples=200, deadline=None)
@given(
    attempt=st.integers(2, 10**9),
    initial_s=st.floats(0, 1e3),
    max_s=st.floats(0, 1e3),
    multiplier=st.floats(1, 1e6),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_backoff_stays_within_bounds(
    attempt: int, initial_s: float, max_s: float, multiplier: float, jitter: float, seed: int
) -> None:
    config = RetryConfig(
        initial_backoff_s=initial_s,
        max_backoff_s=max_s,
        backoff_multiplier=multiplier,
        jitter_ratio=jitter,
    )
    wait_s = backoff_s(config, attempt, random.Random(seed))
    assert min(initial_s, max_s) * (1 - jitter) * (1 - 1e-12) <= wait_s <= max_s


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.booleans(), max_size=300),
    ratio=st.floats(0, 1),
    reserve=st.integers(0, 5),
)
def test_budget_never_grants_more_than_its_share(
    steps: list[bool], ratio: float, reserve: int
) -> None:
    budget = RetryBudget(RetryConfig(budget_ratio=ratio, budget_min_retries=reserve))
    num_requests = num_retries = 0
    for is_request in steps:
        if is_request:
            budget.deposit()
            num_requests += 1
        else:
            granted = budget.withdraw()
            available = reserve + ratio * min(num_requests, BUDGET_MEMORY_REQUESTS) - num_retries
            assert granted is (available >= 1) or abs(available - 1) < 1e-6
            num_retries += granted


@settings(max_examples=100, deadline=None)
@given(
    answers=st.lists(st.sampled_from([None, "lost", 500, 503, 400]), min_size=1, max_size=30),
    max_attempts=st.integers(1, 10),
)
def test_a_request_is_sent_no_more_often_than_allowed(
    answers: list[int | str | None], max_attempts: int
) -> None:
    config = RetryConfig(max_attempts=max_attempts)
    num_attempts = num_lost = 0
    for answer in answers:
        num_attempts += 1
        num_lost += answer == "lost"
        if not may_retry(
            config,
            num_attempts=num_attempts,
            num_lost=num_lost,
            status=answer if isinstance(answer, int) else None,
            has_answered=False,
            retryable=PD_RETRYABLE_STATUSES,
        ):
            break
    assert num_attempts <= max_attempts
    assert num_lost <= MAX_LOST_ATTEMPTS
    assert 400 not in answers[: num_attempts - 1]
