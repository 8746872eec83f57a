"""What selection policies can be told. One record for all: each reads the fields that it knows."""

from dataclasses import dataclass
from enum import StrEnum

from hfx_sgl.policy.bounds import at_least, check, more_than, within


class AssignmentMode(StrEnum):
    """How `manual` picks the worker for a routing key that it has not seen."""

    RANDOM = "random"
    MIN_LOAD = "min_load"
    MIN_GROUP = "min_group"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Thresholds of all policies. The defaults are those of sglang-router 0.3.2."""

    cache_threshold: float = 0.3
    """cache_aware follows a match above this share of the prompt."""
    balance_abs_threshold: int = 64
    """Loads are imbalanced when highest and lowest differ by more than this many requests, and"""
    balance_rel_threshold: float = 1.5
    """when the highest also exceeds the lowest times this."""
    eviction_interval_s: float = 60.0
    """How often cache_aware makes room ahead of need."""
    max_tree_chars: int = 67_108_864
    """How much prompt text cache_aware remembers for one worker, in bytes."""
    max_idle_s: float = 14_400.0
    """How long manual remembers a routing key that is not used."""
    assignment_mode: AssignmentMode = AssignmentMode.RANDOM
    bucket_adjust_interval_s: float = 5.0
    """How often, at most, bucket computes its boundaries."""

    def __post_init__(self) -> None:
        check(
            within("cache_threshold", self.cache_threshold, 0, 1),
            at_least("balance_abs_threshold", self.balance_abs_threshold, 0),
            at_least("balance_rel_threshold", self.balance_rel_threshold, 1),
            more_than("eviction_interval_s", self.eviction_interval_s, 0),
            at_least("max_tree_chars", self.max_tree_chars, 1),
            more_than("max_idle_s", self.max_idle_s, 0),
            more_than("bucket_adjust_interval_s", self.bucket_adjust_interval_s, 0),
        )
