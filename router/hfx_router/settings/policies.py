"""Which routing policy names a setting may hold: the built-in ones, and those of packages."""

from importlib.metadata import entry_points

from hfx_sgl.policy.selection.catalog import (
    ENTRY_POINT_GROUP,
    POLICY_NAMES,
    PREFILL_POLICY_NAMES,
)

SCHEDULER = "hfx"
"""The policy that keeps requests in a queue of its own, and decides for all pools at once."""

WITHOUT_SCHEDULER = "cache_aware"
"""Stands in for the scheduler where it has no say."""


def check_main_policy(name: str) -> str:
    """Accept a policy for the whole cluster."""
    return _check(name, (SCHEDULER, *POLICY_NAMES))


def check_policy(name: str) -> str:
    """Accept a policy that workers of any role can have."""
    return _check(name, POLICY_NAMES)


def check_prefill_policy(name: str) -> str:
    """Accept a policy that prefill workers can have."""
    return _check(name, PREFILL_POLICY_NAMES)


def _check(name: str, built_in: tuple[str, ...]) -> str:
    if name in built_in:
        return name
    installed = sorted({entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)})
    if name not in installed:
        names = ", ".join((*built_in, *installed))
        hint = "; bucket is for prefill workers only" if name in PREFILL_POLICY_NAMES else ""
        raise ValueError(f"unknown policy {name!r}, expected one of {names}{hint}")
    return name
