"""Classes of promises, and the rules that give a request one it did not ask for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hfx_sgl.policy.bounds import check
from hfx_sgl.slo import Slo

NO_CLASS = "none"
"""Stands for the class of a request that has none."""

OTHER_CLASS = "other"
"""Stands for classes that are not told apart."""

MAX_CLASSES = 64
"""A class is a label of metrics; monitoring systems want those few."""

_CLASS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_class_name(text: str) -> bool:
    """Tell whether `text` can stand in headers and labels as it is: 1 to 64 of A-Z a-z 0-9 . _ -,
    the first of them a letter or a digit."""
    return _CLASS_NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTraits:
    """What rules look at. None is what the request does not say."""

    path: str
    model: str | None = None
    api_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloRule:
    """Gives a class to requests that meet every condition. None is no condition."""

    class_name: str
    model: str | None = None
    path: str | None = None
    api_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloConfig:
    """What requests are promised that state no bounds themselves."""

    classes: Mapping[str, Slo] = field(default_factory=dict)
    rules: tuple[SloRule, ...] = ()
    """The first that fits decides."""
    default_class: str | None = None
    """The class of requests that no rule fits; None promises them nothing."""

    def __post_init__(self) -> None:
        check(
            f"classes: there may be {MAX_CLASSES}, not {len(self.classes)}"
            if len(self.classes) > MAX_CLASSES
            else None,
            *(_name_problem(name) for name in self.classes),
            *self._rule_problems(),
            self._missing("default_class", self.default_class),
        )

    def _rule_problems(self) -> Iterator[str | None]:
        for index, rule in enumerate(self.rules):
            yield self._missing(f"rules[{index}].class", rule.class_name)
            if (rule.model, rule.path, rule.api_key) == (None, None, None):
                yield f"rules[{index}]: needs a condition: model, path or api_key"

    def _missing(self, field_name: str, class_name: str | None) -> str | None:
        if class_name is None or class_name in self.classes:
            return None
        known = ", ".join(self.classes) or "none are configured"
        return f"{field_name}: there is no class {class_name!r} (classes: {known})"


def _name_problem(name: str) -> str | None:
    if name in (NO_CLASS, OTHER_CLASS):
        return f"classes.{name}: the name stands for something else in metrics"
    if not is_class_name(name):
        return (
            f"classes.{name}: a name is 1 to 64 letters, digits, dots, underscores or dashes, "
            "the first a letter or digit"
        )
    return None
