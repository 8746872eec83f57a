"""Whether the hot modules run from source or as compiled extensions (scripts/compile)."""

from enum import StrEnum
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

_ONE_OF_THEM = "hfx_sgl.policy.scheduler.scheduler"
"""All of them are compiled together, or none is."""


class CodeForm(StrEnum):
    """What Python imports."""

    PURE = "pure"
    COMPILED = "compiled"


def code_form() -> CodeForm:
    """Return the form in which the scheduler and the byte path run here."""
    spec = find_spec(_ONE_OF_THEM)
    origin = "" if spec is None else spec.origin or ""
    is_compiled = origin.endswith(tuple(EXTENSION_SUFFIXES))
    return CodeForm.COMPILED if is_compiled else CodeForm.PURE
