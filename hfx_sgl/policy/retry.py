"""Whether, and after what wait, a request may be sent once more. Sends nothing, sleeps nowhere."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hfx_sgl.policy.bounds import at_least, check, within

if TYPE_CHECKING:
    from random import Random

RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Answers of a worker that another worker may not give. A 500 is the worker's verdict on this
request and would be the next worker's, too."""

PD_RETRYABLE_STATUSES = RETRYABLE_STATUSES | {500}
"""The same for prefill/decode pairs: SGLang reports a failed KV hand-off as 500."""

MAX_LOST_ATTEMPTS = 2
"""A request whose worker connection broke after it was sent may be what broke it. Two workers
are the most that one request may take down, so it is not sent a third time."""

BUDGET_MEMORY_REQUESTS = 10_000
"""How many requests' worth of unused retries a budget keeps; bounds the burst after a calm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryConfig:
    """How often and how soon. Attempts and waits default to those of sglang-router 0.3.2."""

    max_attempts: int = 5
    """Times a request is sent in total, the first included; 1 switches retries off."""
    initial_backoff_s: float = 0.05
    max_backoff_s: float = 30.0
    backoff_multiplier: float = 1.5
    jitter_ratio: float = 0.2
    """A wait is drawn from its nominal length plus or minus this share."""
    budget_ratio: float = 0.2
    """Retries per request that are sustainable: the share of extra load that a pool which is
    already in trouble can be asked to bear (the usual figure of retry budgets)."""
    budget_min_retries: int = 10
    """Retries granted before any request was seen, so that a quiet router can retry at all."""

    def __post_init__(self) -> None:
        check(
            at_least("max_attempts", self.max_attempts, 1),
            at_least("initial_backoff_s", self.initial_backoff_s, 0),
            at_least("max_backoff_s", self.max_backoff_s, 0),
            at_least("backoff_multiplier", self.backoff_multiplier, 1),
            within("jitter_ratio", self.jitter_ratio, 0, 1),
            within("budget_ratio", self.budget_ratio, 0, 1),
            at_least("budget_min_retries", self.budget_min_retries, 0),
        )


def may_retry(
    config: RetryConfig,
    *,
    num_attempts: int,
    num_lost: int,
    status: int | None,
    has_answered: bool,
    retryable: frozenset[int] = RETRYABLE_STATUSES,
) -> bool:
    """Return whether a failed request may be sent again; the budget is asked separately.

    Args:
        config: the limits.
        num_attempts: times it was sent, or tried to be, so far.
        num_lost: those among them whose connection broke after the request was sent.
        status: the worker's answer; None when there was none (transport failure).
        has_answered: whether any byte of an answer has gone to the client.
        retryable: the statuses that another attempt can change.
    """
    if has_answered or num_attempts >= config.max_attempts or num_lost >= MAX_LOST_ATTEMPTS:
        return False
    return status is None or status in retryable


def backoff_s(config: RetryConfig, attempt: int, rng: "Random") -> float:
    """Return how long to wait before attempt number `attempt`; the first retry is attempt 2.

    Grows by `backoff_multiplier` per attempt, jittered, never above `max_backoff_s`.
    """
    if attempt < 2:
        raise ValueError(f"attempt must be at least 2, the first retry (got {attempt})")
    try:
        nominal_s = config.initial_backoff_s * config.backoff_multiplier ** (attempt - 2)
    except OverflowError:
        nominal_s = config.max_backoff_s if config.initial_backoff_s else 0.0
    jitter = 1.0 + config.jitter_ratio * (2.0 * rng.random() - 1.0)
    return min(min(nominal_s, config.max_backoff_s) * jitter, config.max_backoff_s)


class RetryBudget:
    """Keeps retries a bounded share of the traffic, so that they cannot bury a struggling pool.

    Over its life it grants at most `budget_min_retries` plus `budget_ratio` per request.
    """

    __slots__ = ("_balance", "_max_balance", "_ratio")

    def __init__(self, config: RetryConfig) -> None:
        self._ratio = config.budget_ratio
        self._balance = float(config.budget_min_retries)
        self._max_balance = self._balance + self._ratio * BUDGET_MEMORY_REQUESTS

    def deposit(self) -> None:
        """Count one request; call it once per request, not per attempt."""
        balance = self._balance + self._ratio
        self._balance = balance if balance < self._max_balance else self._max_balance

    def withdraw(self) -> bool:
        """Take one retry out of the budget; False when it is spent, and then do not retry."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
