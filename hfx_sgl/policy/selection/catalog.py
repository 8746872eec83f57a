"""Makes selection policies by name: the built-in ones, and those that other packages provide.

The only part of the policy core that looks beyond its arguments (at the entry points of the
installed packages), and only while a policy is being made.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.selection.bucket import Bucket
from hfx_sgl.policy.selection.cache_aware import CacheAware
from hfx_sgl.policy.selection.config import AssignmentMode, SelectionConfig
from hfx_sgl.policy.selection.least_load import LeastLoad
from hfx_sgl.policy.selection.manual import Manual
from hfx_sgl.policy.selection.power_of_two import PowerOfTwo
from hfx_sgl.policy.selection.random_choice import RandomChoice
from hfx_sgl.policy.selection.round_robin import RoundRobin
from hfx_sgl.policy.view import SelectionPolicy

if TYPE_CHECKING:
    from random import Random

__all__ = [
    "ENTRY_POINT_GROUP",
    "POLICY_NAMES",
    "PREFILL_POLICY_NAMES",
    "AssignmentMode",
    "SelectionConfig",
    "make_policy",
]

ENTRY_POINT_GROUP = "hfx_sgl.policies"
"""Where a package announces a factory `(SelectionConfig, random.Random) -> SelectionPolicy`."""

_BUILT_IN: dict[str, Callable[[SelectionConfig, "Random"], SelectionPolicy]] = {
    "random": lambda config, rng: RandomChoice(rng),
    "round_robin": lambda config, rng: RoundRobin(),
    "cache_aware": lambda config, rng: CacheAware(config),
    "power_of_two": lambda config, rng: PowerOfTwo(rng),
    "least_load": lambda config, rng: LeastLoad(),
    "manual": Manual,
    "bucket": Bucket,
}

PREFILL_POLICY_NAMES = tuple(_BUILT_IN)
"""Built-in policies for prefill workers."""

POLICY_NAMES = tuple(name for name in _BUILT_IN if name != "bucket")
"""Built-in policies for regular and decode workers, which prompt length alone does not load."""


def make_policy(name: str, config: SelectionConfig, rng: "Random") -> SelectionPolicy:
    """Return a new policy; each pool of workers wants its own.

    Raises:
        ConfigError: no such policy, or a foreign one that cannot be used; the message says why.
    """
    factory = _BUILT_IN.get(name)
    return _make_foreign(name, config, rng) if factory is None else factory(config, rng)


def _make_foreign(name: str, config: SelectionConfig, rng: "Random") -> SelectionPolicy:
    """Return the policy that an installed package announces under `name`."""
    announced = entry_points(group=ENTRY_POINT_GROUP)
    found = {entry.value: entry for entry in announced if entry.name == name}
    if not found:
        known = ", ".join([*_BUILT_IN, *sorted({entry.name for entry in announced})])
        raise ConfigError(f"policy: no policy is called {name!r} (known: {known})")
    if len(found) > 1:
        raise ConfigError(f"policy: {name!r} is announced more than once: {', '.join(found)}")
    value, entry = found.popitem()
    try:
        factory = entry.load()
    except (ImportError, AttributeError) as exc:
        raise ConfigError(f"policy: {name!r} cannot be loaded from {value}: {exc}") from exc
    return _checked(name, value, factory(config, rng))


def _checked(name: str, value: str, policy: Any) -> SelectionPolicy:
    """Return `policy` when it has the methods of one; the first request would be late to tell."""
    for method in ("select", "forget"):
        if not callable(getattr(policy, method, None)):
            raise ConfigError(f"policy: what {value} makes for {name!r} has no method {method}")
    return policy  # type: ignore[no-any-return]
