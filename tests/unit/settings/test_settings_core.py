import pytest
from hfx_router.settings import RouterSettings, core, load_settings
from hfx_router.workers.worker import WorkerSpec

from hfx_sgl.policy.admission import AdmissionConfig
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.retry import RetryConfig
from hfx_sgl.policy.scheduler.config import OnInfeasible
from hfx_sgl.policy.selection.config import AssignmentMode, SelectionConfig
from hfx_sgl.types import Role


def load(command: str) -> RouterSettings:
    return load_settings(command.split(), {})


def test_defaults_agree_with_those_of_the_core() -> None:
    settings = RouterSettings()
    assert core.selection_config(settings) == SelectionConfig()
    assert core.breaker_config(settings) == BreakerConfig()
    assert core.health_config(settings) == HealthConfig()
    assert core.retry_config(settings) == RetryConfig()
    assert core.admission_config(settings) == AdmissionConfig(max_concurrent=None)
    assert core.worker_specs(settings) == ()


def test_selection() -> None:
    settings = load(
        "--cache-threshold 0.5 --balance-abs-threshold 3 --balance-rel-threshold 2 "
        "--eviction-interval-secs 7 --max-tree-size 8 --max-idle-secs 9 "
        "--assignment-mode min_load --bucket-adjust-interval-secs 11"
    )
    assert core.selection_config(settings) == SelectionConfig(
        cache_threshold=0.5,
        balance_abs_threshold=3,
        balance_rel_threshold=2.0,
        eviction_interval_s=7.0,
        max_tree_chars=8,
        max_idle_s=9.0,
        assignment_mode=AssignmentMode.MIN_LOAD,
        bucket_adjust_interval_s=11.0,
    )


def test_breaker_and_health() -> None:
    settings = load(
        "--cb-failure-threshold 1 --cb-success-threshold 2 --cb-timeout-duration-secs 3 "
        "--cb-window-duration-secs 4 --disable-circuit-breaker "
        "--health-failure-threshold 5 --health-success-threshold 6"
    )
    assert core.breaker_config(settings) == BreakerConfig(
        failure_threshold=1, success_threshold=2, timeout_s=3.0, window_s=4.0, enabled=False
    )
    assert core.health_config(settings) == HealthConfig(failure_threshold=5, success_threshold=6)


def test_retries() -> None:
    settings = load(
        "--retry-max-retries 3 --retry-initial-backoff-ms 20 --retry-max-backoff-ms 4000 "
        "--retry-backoff-multiplier 2 --retry-jitter-factor 0.5 --retry-budget-ratio 0.1"
    )
    assert core.retry_config(settings) == RetryConfig(
        max_attempts=3,
        initial_backoff_s=0.02,
        max_backoff_s=4.0,
        backoff_multiplier=2.0,
        jitter_ratio=0.5,
        budget_ratio=0.1,
    )


def test_disabled_retries_mean_one_attempt() -> None:
    settings = load("--retry-max-retries 3 --disable-retries")
    assert core.retry_config(settings).max_attempts == 1


def test_admission() -> None:
    settings = load(
        "--max-concurrent-requests 8 --queue-size 0 --queue-timeout-secs 9 "
        "--rate-limit-tokens-per-second 10"
    )
    assert core.admission_config(settings) == AdmissionConfig(
        max_concurrent=8, queue_size=0, queue_timeout_s=9.0, rate_per_s=10.0
    )


@pytest.mark.parametrize(
    ("command", "regular", "prefill", "decode"),
    [
        ("", "hfx", "hfx", "hfx"),
        ("--pd-disaggregation", "hfx", "hfx", "hfx"),
        ("--policy random", "random", "random", "random"),
        ("--policy random --prefill-policy bucket", "random", "bucket", "random"),
        (
            "--pd-disaggregation --decode-policy least_load",
            *("cache_aware", "cache_aware", "least_load"),
        ),
        (
            "--pd-disaggregation --prefill-policy bucket",
            *("cache_aware", "bucket", "cache_aware"),
        ),
        ("--prefill-policy bucket", "hfx", "hfx", "hfx"),
    ],
)
def test_policy_of_each_role(command: str, regular: str, prefill: str, decode: str) -> None:
    settings = load(command)
    assert core.policy_name(settings, Role.REGULAR) == regular
    assert core.policy_name(settings, Role.PREFILL) == prefill
    assert core.policy_name(settings, Role.DECODE) == decode


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", True),
        ("--policy hfx --pd-disaggregation", True),
        ("--policy cache_aware", False),
        ("--pd-disaggregation --prefill-policy bucket", False),
        ("--pd-disaggregation --decode-policy random", False),
        ("--prefill-policy bucket", True),
    ],
)
def test_when_the_scheduler_is_used(command: str, expected: bool) -> None:
    assert core.uses_scheduler(load(command)) is expected


def test_what_is_not_scheduled_goes_by_cache_aware() -> None:
    assert core.selection_name(load(""), Role.REGULAR) == "cache_aware"
    assert core.selection_name(load("--policy random"), Role.REGULAR) == "random"


def test_what_becomes_of_hopeless_requests() -> None:
    assert core.scheduler_config(load("")).on_infeasible is OnInfeasible.DEMOTE
    config = core.scheduler_config(load("--on-infeasible reject"))
    assert config.on_infeasible is OnInfeasible.REJECT


def test_regular_workers() -> None:
    settings = load("--worker-urls http://a:1 http://b:2 --api-key k --disable-health-check")
    assert core.worker_specs(settings) == (
        WorkerSpec(url="http://a:1", api_key="k", disable_health_check=True),
        WorkerSpec(url="http://b:2", api_key="k", disable_health_check=True),
    )


def test_pd_workers() -> None:
    settings = load(
        "--pd-disaggregation --prefill http://p:1 8998 --prefill http://q:1 --decode http://d:1"
    )
    assert core.worker_specs(settings) == (
        WorkerSpec(url="http://p:1", role=Role.PREFILL, bootstrap_port=8998),
        WorkerSpec(url="http://q:1", role=Role.PREFILL),
        WorkerSpec(url="http://d:1", role=Role.DECODE),
    )
