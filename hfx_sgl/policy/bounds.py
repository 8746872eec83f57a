"""Range checks for policy configurations. Knows no field; raises all problems of one at once."""

from math import isfinite

from hfx_sgl.errors import ConfigError


def at_least(name: str, value: float, low: float) -> str | None:
    """Return the problem with `value`, or None when it is a finite number of at least `low`."""
    if isfinite(value) and value >= low:
        return None
    return f"{name}: must be at least {low} (got {value})"


def more_than(name: str, value: float, low: float) -> str | None:
    """Return the problem with `value`, or None when it is a finite number above `low`."""
    if isfinite(value) and value > low:
        return None
    return f"{name}: must be more than {low} (got {value})"


def within(name: str, value: float, low: float, high: float) -> str | None:
    """Return the problem with `value`, or None when it lies in `low..high`, ends included."""
    if low <= value <= high:
        return None
    return f"{name}: must be between {low} and {high} (got {value})"


def check(*problems: str | None) -> None:
    """Raise one ConfigError that holds every problem found, if there is any."""
    found = [problem for problem in problems if problem is not None]
    if found:
        raise ConfigError(*found)
