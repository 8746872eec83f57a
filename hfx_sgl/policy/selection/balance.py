"""The test for lopsided load that cache_aware and bucket share."""

from collections.abc import Sequence

from hfx_sgl.policy.selection.config import SelectionConfig
from hfx_sgl.policy.view import WorkerView


def is_imbalanced(config: SelectionConfig, candidates: Sequence[WorkerView]) -> bool:
    """Return whether highest and lowest load differ by both thresholds of `config`."""
    loads = [worker.num_inflight for worker in candidates]
    highest = max(loads)
    if highest <= config.balance_abs_threshold:
        return False
    lowest = min(loads)
    return (
        highest - lowest > config.balance_abs_threshold
        and highest > lowest * config.balance_rel_threshold
    )
