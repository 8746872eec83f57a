"""Which worker gets a request."""

from functools import partial
from typing import Annotated

from pydantic import AfterValidator

from hfx_router.settings.field import U32_MAX, YEAR_SECS, Group, SettingsFields, setting
from hfx_router.settings.policies import (
    SCHEDULER,
    check_main_policy,
    check_policy,
    check_prefill_policy,
)
from hfx_router.settings.values import FutureFile
from hfx_sgl.policy.scheduler.config import OnInfeasible
from hfx_sgl.policy.selection.config import AssignmentMode

_policy = partial(setting, group=Group.POLICY)

MainPolicyName = Annotated[str, AfterValidator(check_main_policy)]
PolicyName = Annotated[str, AfterValidator(check_policy)]
PrefillPolicyName = Annotated[str, AfterValidator(check_prefill_policy)]


class PolicyFields(SettingsFields):
    """Policy names and their thresholds."""

    policy: MainPolicyName = _policy(
        SCHEDULER,
        "How a worker is chosen: hfx (by promises, from a queue), random, round_robin, "
        "power_of_two, least_load, cache_aware, manual, or one that an installed package offers. "
        "Holds for both roles in PD mode.",
        metavar="NAME",
    )
    on_infeasible: OnInfeasible = _policy(
        OnInfeasible.DEMOTE,
        "hfx: what becomes of a request whose promise cannot be kept any more: demote (waits "
        "behind the others, and ages), reject (429), best_effort (gets what the others leave).",
    )
    debug_decisions: int = _policy(
        256,
        "hfx: how many of the last decisions GET /debug/decisions can explain; 0 keeps none.",
        ge=0,
        le=100_000,
    )
    latency_profile: FutureFile | None = _policy(
        None,
        "hfx: file in which what was learnt of the workers' speed is kept over restarts. Its "
        "folder must exist.",
        metavar="FILE",
    )
    prefill_policy: PrefillPolicyName | None = _policy(
        None,
        "Policy for prefill workers, default --policy. Adds bucket (by prompt length). A role with "
        "a policy of its own turns hfx off; the other role then has cache_aware.",
        metavar="NAME",
    )
    decode_policy: PolicyName | None = _policy(
        None, "Policy for decode workers, default --policy.", metavar="NAME"
    )
    cache_threshold: float = _policy(
        0.3,
        "cache_aware: share of the prompt that a worker must have seen to be preferred for it.",
        ge=0,
        le=1,
    )
    balance_abs_threshold: int = _policy(
        64,
        "cache_aware, bucket: balance by load when the highest load exceeds the lowest by more "
        "than this many requests, and the relative threshold is exceeded too.",
        ge=0,
        le=U32_MAX,
    )
    balance_rel_threshold: float = _policy(
        1.5,
        "cache_aware, bucket: balance by load when the highest load exceeds the lowest times "
        "this, and the absolute threshold is exceeded too.",
        ge=1,
        le=U32_MAX,
    )
    bucket_adjust_interval_secs: int = _policy(
        5, "bucket: seconds between two adjustments of the length boundaries.", ge=1, le=YEAR_SECS
    )
    eviction_interval_secs: int = _policy(
        60,
        "cache_aware: seconds between two rounds of forgetting the oldest prompts.",
        ge=1,
        le=YEAR_SECS,
    )
    max_tree_size: int = _policy(
        2**26,
        "cache_aware: bytes of prompt text to remember for each worker.",
        ge=1,
        le=2**40,
    )
    max_idle_secs: int = _policy(
        4 * 3600,
        "manual: seconds without a request after which a key is forgotten.",
        ge=1,
        le=YEAR_SECS,
    )
    assignment_mode: AssignmentMode = _policy(
        AssignmentMode.RANDOM,
        "manual: worker for a new key: any, the one with the fewest requests, or the one with the "
        "fewest keys.",
    )
