"""Settings turned into the values that the policy core and the registry take.

The core never sees the settings model; milliseconds end here.
"""

from hfx_router.settings.model import RouterSettings
from hfx_router.settings.policies import SCHEDULER, WITHOUT_SCHEDULER
from hfx_router.workers.worker import WorkerSpec
from hfx_sgl.policy.admission import AdmissionConfig
from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.pairs.link import LinkConfig
from hfx_sgl.policy.retry import RetryConfig
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.selection.catalog import SelectionConfig
from hfx_sgl.policy.slo.config import SloConfig
from hfx_sgl.types import Role


def uses_scheduler(settings: RouterSettings) -> bool:
    """Return whether requests wait in the scheduler's queue."""
    is_overridden = settings.prefill_policy is not None or settings.decode_policy is not None
    return settings.policy == SCHEDULER and not (settings.pd_disaggregation and is_overridden)


def policy_name(settings: RouterSettings, role: Role) -> str:
    """Return the policy for workers of this role, as people know it."""
    return SCHEDULER if uses_scheduler(settings) else selection_name(settings, role)


def selection_name(settings: RouterSettings, role: Role) -> str:
    """Return the selection policy for workers of this role, for what is not scheduled."""
    name = settings.policy
    if role is Role.PREFILL:
        name = settings.prefill_policy or name
    elif role is Role.DECODE:
        name = settings.decode_policy or name
    return WITHOUT_SCHEDULER if name == SCHEDULER else name


def scheduler_config(settings: RouterSettings) -> SchedulerConfig:
    """Return how the scheduler decides."""
    return SchedulerConfig(on_infeasible=settings.on_infeasible)


def selection_config(settings: RouterSettings) -> SelectionConfig:
    """Return the thresholds of the routing policies."""
    return SelectionConfig(
        cache_threshold=settings.cache_threshold,
        balance_abs_threshold=settings.balance_abs_threshold,
        balance_rel_threshold=settings.balance_rel_threshold,
        eviction_interval_s=float(settings.eviction_interval_secs),
        max_tree_chars=settings.max_tree_size,
        max_idle_s=float(settings.max_idle_secs),
        assignment_mode=settings.assignment_mode,
        bucket_adjust_interval_s=float(settings.bucket_adjust_interval_secs),
    )


def breaker_config(settings: RouterSettings) -> BreakerConfig:
    """Return the thresholds of the circuit breakers."""
    return BreakerConfig(
        failure_threshold=settings.cb_failure_threshold,
        success_threshold=settings.cb_success_threshold,
        timeout_s=float(settings.cb_timeout_duration_secs),
        window_s=float(settings.cb_window_duration_secs),
        enabled=not settings.disable_circuit_breaker,
    )


def health_config(settings: RouterSettings) -> HealthConfig:
    """Return the thresholds of the health checks."""
    return HealthConfig(
        failure_threshold=settings.health_failure_threshold,
        success_threshold=settings.health_success_threshold,
    )


def watches_pairs(settings: RouterSettings) -> bool:
    """Return whether prefill and decode workers are compared, and the links between them kept."""
    return settings.pd_disaggregation and not settings.disable_pair_checks


def link_config(settings: RouterSettings) -> LinkConfig:
    """Return when the link of a pair goes down, and for how long."""
    return LinkConfig(
        failure_threshold=settings.link_failure_threshold,
        cooldown_s=settings.link_cooldown_secs,
        max_cooldown_s=settings.link_max_cooldown_secs,
    )


def retry_config(settings: RouterSettings) -> RetryConfig:
    """Return how often and when to try again; `retry_max_retries` counts the first attempt too."""
    return RetryConfig(
        max_attempts=1 if settings.disable_retries else settings.retry_max_retries,
        initial_backoff_s=settings.retry_initial_backoff_ms / 1000,
        max_backoff_s=settings.retry_max_backoff_ms / 1000,
        backoff_multiplier=settings.retry_backoff_multiplier,
        jitter_ratio=settings.retry_jitter_factor,
        budget_ratio=settings.retry_budget_ratio,
    )


def admission_config(settings: RouterSettings) -> AdmissionConfig:
    """Return the concurrency limit and its queue."""
    limit = settings.max_concurrent_requests
    rate = settings.rate_limit_tokens_per_second
    return AdmissionConfig(
        max_concurrent=None if limit == -1 else limit,
        queue_size=settings.queue_size,
        queue_timeout_s=float(settings.queue_timeout_secs),
        rate_per_s=None if rate is None else float(rate),
    )


def slo_config(settings: RouterSettings) -> SloConfig:
    """Return the classes of promises and who gets which."""
    return settings.slo or SloConfig()


def worker_specs(settings: RouterSettings) -> tuple[WorkerSpec, ...]:
    """Return the workers to register at start."""

    def spec(url: str, role: Role, bootstrap_port: int | None = None) -> WorkerSpec:
        return WorkerSpec(
            url=url,
            role=role,
            bootstrap_port=bootstrap_port,
            api_key=settings.api_key,
            dp_aware=settings.dp_aware,
            disable_health_check=settings.disable_health_check,
        )

    return (
        *(spec(url, Role.REGULAR) for url in settings.worker_urls),
        *(spec(target.url, Role.PREFILL, target.bootstrap_port) for target in settings.prefill),
        *(spec(url, Role.DECODE) for url in settings.decode),
    )
