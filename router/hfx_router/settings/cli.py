"""The command line, built from the model. Passes words on as they are; the model judges them."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic.fields import FieldInfo

from hfx_router.settings.describe import (
    choices_of,
    default_text,
    flag_of,
    is_number,
    is_switch,
    status_text,
)
from hfx_router.settings.field import Arity, Group, Status, traits_of
from hfx_router.settings.model import RouterSettings
from hfx_router.settings.sources import Given, did_you_mean
from hfx_sgl import __version__
from hfx_sgl.code_form import code_form
from hfx_sgl.errors import ConfigError

PROG = "hfx-router"

_EXAMPLES = """\
examples:
  hfx-router --worker-urls http://worker1:30000 http://worker2:30000
  hfx-router --pd-disaggregation --prefill http://prefill1:30000 8998 --decode http://decode1:30000
  hfx-router --config router.yaml --policy least_load

Every setting can also be given as HFX_<NAME> in the environment or as <name> in the file.
A flag wins over a variable, a variable over the file.
"""

_NARGS: dict[Arity, dict[str, Any]] = {
    Arity.ONE: {},
    Arity.ANY: {"nargs": "*"},
    Arity.SOME: {"nargs": "+"},
    Arity.REPEATED: {"action": "append"},
    Arity.REPEATED_SOME: {"action": "append", "nargs": "+"},
}


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage and leaving the process."""

    def error(self, message: str) -> NoReturn:
        flag, text = _split_message(message)
        raise ConfigError(f"{flag}: {text}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; only flags that were given appear in its result."""
    parser = _Parser(
        prog=PROG,
        usage=f"{PROG} [options]",
        description="SLO-aware router in front of SGLang workers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    version = f"{PROG} {__version__} ({code_form()})"
    parser.add_argument("--version", action="version", version=version)
    for group in Group:
        section = parser.add_argument_group(group)
        for name, field in RouterSettings.model_fields.items():
            if traits_of(field).group == group:
                section.add_argument(
                    flag_of(name), dest=name, help=_help_text(field), **_shape(field)
                )
    return parser


def flag_values(argv: Sequence[str]) -> dict[str, Given]:
    """Return the settings on the command line.

    Raises:
        ConfigError: an unknown flag, or a flag without its value.
        SystemExit: `--help` and `--version`, after they have printed.
    """
    namespace, unknown = build_parser().parse_known_args(argv)
    if unknown:
        flags = map(flag_of, RouterSettings.model_fields)
        hint = did_you_mean(unknown[0].partition("=")[0], flags)
        raise ConfigError(f"command line: unknown argument {unknown[0]!r}{hint}")
    return {
        name: Given(value=value, origin=flag_of(name)) for name, value in vars(namespace).items()
    }


def _shape(field: FieldInfo) -> dict[str, Any]:
    if is_switch(field):
        return {"action": "store_true"}
    traits = traits_of(field)
    choices = choices_of(field)
    metavar = traits.metavar or (f"{{{','.join(choices)}}}" if choices else None)
    if metavar is None:
        metavar = "N" if is_number(field) else "TEXT"
    if traits.arity is Arity.REPEATED_SOME:
        # argparse brackets the second word by itself: URL [PORT ...]
        words = tuple(word.strip("[]") for word in metavar.split())
        return {**_NARGS[traits.arity], "metavar": words}
    return {**_NARGS[traits.arity], "metavar": metavar}


def _help_text(field: FieldInfo) -> str:
    notes = "" if is_switch(field) else f" (default: {default_text(field)})"
    if traits_of(field).status is not Status.BACKED:
        notes += f" [{status_text(field)}: {traits_of(field).advice}]"
    return f"{field.description}{notes}".replace("%", "%%")


def _split_message(message: str) -> tuple[str, str]:
    """Turn argparse's `argument --port: expected one argument` into field and message."""
    match = re.fullmatch(r"argument --([a-z0-9-]+): (.*)", message, re.DOTALL)
    if match is None:
        return "command line", message
    return match[1].replace("-", "_"), match[2]
