"""Words for a field in `--help` and on the docs page, derived from its type, bounds and traits."""

from enum import StrEnum
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from hfx_router.settings.field import Arity, traits_of


def flag_of(name: str) -> str:
    """Return the flag of a field."""
    return "--" + name.replace("_", "-")


def is_switch(field: FieldInfo) -> bool:
    """Tell whether the flag takes no value."""
    return field.annotation is bool


def is_number(field: FieldInfo) -> bool:
    """Tell whether the value is a whole or a decimal number."""
    return bool({int, float} & set(_members(field)))


def default_text(field: FieldInfo) -> str:
    """Return the default as an operator would write it."""
    value = field.default
    if value is None:
        return "unset"
    if value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the words that the field is limited to; empty when it is not."""
    for member in _members(field):
        if get_origin(member) is Literal:
            return get_args(member)
        if isinstance(member, type) and issubclass(member, StrEnum):
            return tuple(member)
    return ()


def values_text(field: FieldInfo) -> str:
    """Return what may be given: choices, bounds, or the shape of the text."""
    if is_switch(field):
        return "on, off"
    if choices := choices_of(field):
        return ", ".join(choices)
    traits = traits_of(field)
    if traits.metavar:
        is_list = traits.arity in (Arity.ANY, Arity.SOME)
        return f"{traits.metavar} ..." if is_list else traits.metavar
    if not is_number(field):
        return "text"
    kind = "whole number" if int in _members(field) else "number"
    return f"{kind}{_bounds_text(field)}"


def status_text(field: FieldInfo) -> str:
    """Return the status, and the values that a refused field takes besides its default."""
    traits = traits_of(field)
    return f"{traits.status}{''.join(f', but for {value}' for value in traits.harmless)}"


def _members(field: FieldInfo) -> tuple[object, ...]:
    """Return the alternatives of the field's type."""
    is_union = get_origin(field.annotation) in (Union, UnionType)
    return get_args(field.annotation) if is_union else (field.annotation,)


def _bounds_text(field: FieldInfo) -> str:
    low = high = ""
    for bound in field.metadata:
        match bound:
            case Ge():
                low = f"from {bound.ge}"
            case Gt():
                low = f"above {bound.gt}"
            case Le():
                high = f"to {bound.le}"
    return "".join(f" {part}" for part in (low, high) if part)
