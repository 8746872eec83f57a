"""Puts flags, variables and the file together: flag over variable over file over default."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from hfx_router.settings.cli import flag_values
from hfx_router.settings.field import traits_of
from hfx_router.settings.model import RouterSettings
from hfx_router.settings.sources import Given, file_values, variable_values
from hfx_sgl.errors import ConfigError


def load_settings(argv: Sequence[str], environ: Mapping[str, str]) -> RouterSettings:
    """Return the settings of a process started with these arguments and variables.

    Raises:
        ConfigError: with one `field: message` line for each problem.
        SystemExit: `--help` and `--version`.
    """
    given = {**variable_values(environ), **flag_values(argv)}
    if "config" in given:
        given = {**file_values(str(given["config"].value)), **given}
    values: dict[str, Any] = {name: item.value for name, item in given.items()}
    try:
        return RouterSettings(**values)
    except ValidationError as exc:
        problems = [line for error in exc.errors() for line in _problem_lines(dict(error), given)]
        raise ConfigError(*problems) from exc


def _problem_lines(error: dict[str, Any], given: Mapping[str, Given]) -> list[str]:
    """Render one pydantic error; that of the cross-field rules holds several finished lines."""
    own_error = error.get("ctx", {}).get("error")
    if not error["loc"]:
        return str(own_error).splitlines()
    name = str(error["loc"][0])
    origin = given[name].origin
    if own_error is not None:
        return [f"{name}: {line} ({origin})" for line in str(own_error).splitlines()]
    message = str(error["msg"]).replace("Input should be", "must be").replace("valid tuple", "list")
    is_secret = traits_of(RouterSettings.model_fields[name]).is_secret
    shown = "" if is_secret else f", got {error['input']!r}"
    return [f"{name}: {message}{shown} ({origin})"]
