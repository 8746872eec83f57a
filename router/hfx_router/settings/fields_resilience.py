"""Retries, circuit breakers and health checks."""

from functools import partial

from hfx_router.settings.field import U32_MAX, YEAR_SECS, Group, SettingsFields, setting
from hfx_router.settings.values import UrlPath

_HOUR_MS = 3_600_000

_retries = partial(setting, group=Group.RETRIES)
_breaker = partial(setting, group=Group.BREAKER)
_health = partial(setting, group=Group.HEALTH)


class RetryFields(SettingsFields):
    """Another try after a failure, as long as the client has not received a byte."""

    retry_max_retries: int = _retries(
        5, "Attempts in total, the first one included.", ge=1, le=U32_MAX
    )
    retry_initial_backoff_ms: int = _retries(
        50, "Milliseconds to wait before the second attempt.", ge=1, le=_HOUR_MS
    )
    retry_max_backoff_ms: int = _retries(
        30_000, "Milliseconds to wait between two attempts at most.", ge=1, le=_HOUR_MS
    )
    retry_backoff_multiplier: float = _retries(
        1.5, "Factor from one wait to the next.", ge=1, le=1000
    )
    retry_jitter_factor: float = _retries(
        0.2, "Share of each wait that is random, to keep retries apart.", ge=0, le=1
    )
    retry_budget_ratio: float = _retries(
        0.2,
        "Retries per request over all requests at most, so that an outage is not multiplied.",
        ge=0,
        le=1,
    )
    disable_retries: bool = _retries(False, "One attempt, whatever --retry-max-retries says.")


class BreakerFields(SettingsFields):
    """One circuit breaker for each worker. A client's error never counts against a worker."""

    cb_failure_threshold: int = _breaker(
        10, "Failures within the window that open the breaker of a worker.", ge=1, le=U32_MAX
    )
    cb_success_threshold: int = _breaker(
        3, "Successes that close a half-open breaker.", ge=1, le=U32_MAX
    )
    cb_timeout_duration_secs: int = _breaker(
        60, "Seconds until an open breaker lets a trial request through.", ge=1, le=YEAR_SECS
    )
    cb_window_duration_secs: int = _breaker(
        120, "Seconds for which a failure counts.", ge=1, le=YEAR_SECS
    )
    disable_circuit_breaker: bool = _breaker(False, "Never take a worker out for failed requests.")


class HealthFields(SettingsFields):
    """Regular looks at every worker."""

    health_failure_threshold: int = _health(
        3, "Failed checks in a row that make a worker unhealthy.", ge=1, le=U32_MAX
    )
    health_success_threshold: int = _health(
        2, "Passed checks in a row that make a worker healthy again.", ge=1, le=U32_MAX
    )
    health_check_timeout_secs: int = _health(
        5, "Seconds that a worker may take to answer a check.", ge=1, le=YEAR_SECS
    )
    health_check_interval_secs: int = _health(
        60, "Seconds between two checks of a worker.", ge=1, le=YEAR_SECS
    )
    health_check_endpoint: UrlPath = _health(
        "/health", "Path that is asked for a check.", metavar="PATH"
    )
    disable_health_check: bool = _health(False, "Take every worker for healthy.")
