"""Settings of the scheduler on a command line: `NAME=VALUE`, for every field of its config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_type_hints

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.scheduler.config import SchedulerConfig

FLAG = "--scheduler-set"
_SWITCHES = {"true": True, "false": False}


def setting_names() -> tuple[str, ...]:
    """Return what can be set."""
    return tuple(sorted(field.name for field in fields(SchedulerConfig)))


def scheduler_config(assignments: Sequence[str]) -> SchedulerConfig:
    """Return the config that differs from the default by `assignments`; the last of a name counts.

    Raises:
        ConfigError: an assignment is no `NAME=VALUE`, there is no such setting, or a value is not
            of its kind or out of range.
    """
    kinds = get_type_hints(SchedulerConfig)
    values: dict[str, Any] = {}
    problems = []
    for assignment in assignments:
        try:
            name, value = _parsed(assignment, kinds)
        except ValueError as exc:
            problems.append(f"{FLAG}: {exc}")
        else:
            values[name] = value
    if problems:
        raise ConfigError(*problems)
    try:
        return SchedulerConfig(**values)
    except ConfigError as exc:
        raise ConfigError(*(f"{FLAG}: {problem}" for problem in exc.problems)) from exc


def _parsed(assignment: str, kinds: Mapping[str, Any]) -> tuple[str, object]:
    name, equals, text = assignment.partition("=")
    if not equals:
        raise ValueError(f"must be NAME=VALUE (got {assignment!r})")
    if name not in kinds:
        close = get_close_matches(name, kinds, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(setting_names())}"
        raise ValueError(f"no such setting {name!r}; {hint}")
    parse, expected = _parser_of(kinds[name])
    try:
        return name, parse(text)
    except (KeyError, ValueError) as exc:
        raise ValueError(f"{name}: must be {expected} (got {text!r})") from exc


def _parser_of(kind: Any) -> tuple[Callable[[str], object], str]:
    """Return what reads a value of a kind, and what to call the kind."""
    if kind is bool:
        return _SWITCHES.__getitem__, " or ".join(_SWITCHES)
    if kind is int:
        return int, "a whole number"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind, f"one of {', '.join(kind)}"
    return float, "a number"
