from collections.abc import Callable
from typing import Any

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.admission import AdmissionConfig
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.retry import RetryConfig
from hfx_sgl.policy.selection.config import SelectionConfig


def admission(**fields: Any) -> AdmissionConfig:
    return AdmissionConfig(**{"max_concurrent": None, **fields})


@pytest.mark.parametrize(
    ("make", "field", "value", "limit"),
    [
        (BreakerConfig, "failure_threshold", 0, "at least 1"),
        (BreakerConfig, "success_threshold", 0, "at least 1"),
        (BreakerConfig, "timeout_s", 0, "more than 0"),
        (BreakerConfig, "window_s", -1, "more than 0"),
        (HealthConfig, "failure_threshold", 0, "at least 1"),
        (HealthConfig, "success_threshold", 0, "at least 1"),
        (RetryConfig, "max_attempts", 0, "at least 1"),
        (RetryConfig, "initial_backoff_s", -0.1, "at least 0"),
        (RetryConfig, "max_backoff_s", -0.1, "at least 0"),
        (RetryConfig, "backoff_multiplier", 0.9, "at least 1"),
        (RetryConfig, "jitter_ratio", 1.1, "between 0 and 1"),
        (RetryConfig, "budget_ratio", 1.1, "between 0 and 1"),
        (RetryConfig, "budget_min_retries", -1, "at least 0"),
        (admission, "max_concurrent", 0, "at least 1"),
        (admission, "queue_size", -1, "at least 0"),
        (admission, "queue_timeout_s", 0, "more than 0"),
        (admission, "rate_per_s", 0, "more than 0"),
        (SelectionConfig, "cache_threshold", 1.5, "between 0 and 1"),
        (SelectionConfig, "balance_abs_threshold", -1, "at least 0"),
        (SelectionConfig, "balance_rel_threshold", 0.5, "at least 1"),
        (SelectionConfig, "eviction_interval_s", 0, "more than 0"),
        (SelectionConfig, "max_tree_chars", 0, "at least 1"),
        (SelectionConfig, "max_idle_s", 0, "more than 0"),
        (SelectionConfig, "bucket_adjust_interval_s", 0, "more than 0"),
    ],
)
def test_out_of_range_is_refused_naming_field_and_limit(
    make: Callable[..., object], field: str, value: float, limit: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**{field: value})
    assert caught.value.problems == (f"{field}: must be {limit} (got {value})",)


def test_all_problems_of_a_config_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        SelectionConfig(cache_threshold=2, max_idle_s=0)
    assert len(caught.value.problems) == 2
