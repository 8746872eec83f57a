"""Settings from a YAML file and from `HFX_*` variables, each value with where it was found.

Only names are checked here; values are the model's business.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from hfx_router.settings.model import RouterSettings
from hfx_sgl.errors import ConfigError
from hfx_sgl.yaml_file import duplicate_keys

PREFIX = "HFX_"

SCRIPT_VARIABLES = frozenset({"HFX_PYTHON", "HFX_SGLANG_VENV", "HFX_TORCH_INDEX_URL", "HFX_VENV"})
"""Read by the scripts of the repository; a router started where they are exported ignores them."""

# Kubernetes puts these into every pod of a namespace that has a Service called hfx-something.
_SERVICE_LINK = re.compile(
    r"HFX_(\w+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value as it was written, and where: a flag, a variable, or file and line."""

    value: object
    origin: str


def variable_values(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return the settings among the variables; an unknown `HFX_*` variable is an error."""
    given = {}
    unknown = []
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or _is_meant_for_others(variable, text):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in RouterSettings.model_fields and variable.isupper():
            given[name] = Given(value=text, origin=variable)
        else:
            variables = (PREFIX + field.upper() for field in RouterSettings.model_fields)
            unknown.append(f"{variable}: unknown variable{did_you_mean(variable, variables)}")
    if unknown:
        raise ConfigError(*unknown)
    return given


def file_values(path: str) -> dict[str, Given]:
    """Return the settings in a YAML file; unknown and repeated keys are errors."""
    given: dict[str, Given] = {}
    problems = []
    for key, value, line in _read_mapping(path):
        origin = f"{path}, line {line}"
        problem = _key_problem(key, value)
        if str(key) in given:
            problem = f"given twice, first in {given[str(key)].origin}"
        if problem:
            problems.append(f"{key}: {problem} ({origin})")
        else:
            given[str(key)] = Given(value=value, origin=origin)
    if problems:
        raise ConfigError(*problems)
    return given


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a suggestion to append to an error message; empty when nothing is close."""
    close = get_close_matches(word, list(words), n=1, cutoff=0.75)
    return f", did you mean {close[0]}?" if close else ""


def _is_meant_for_others(variable: str, text: str) -> bool:
    is_service_link = _SERVICE_LINK.fullmatch(variable) or _SERVICE_ADDRESS.match(text)
    return bool(is_service_link) or variable in SCRIPT_VARIABLES


def _key_problem(key: object, value: object) -> str:
    if not isinstance(key, str) or key not in RouterSettings.model_fields:
        return f"unknown setting{did_you_mean(str(key), RouterSettings.model_fields)}"
    if key == "config":
        return "a settings file cannot name another one"
    # The model would take a stray yes for the number 1.
    if isinstance(value, bool) and RouterSettings.model_fields[key].annotation is not bool:
        return f"must not be {str(value).lower()}"
    return ""


def _read_mapping(path: str) -> list[tuple[object, object, int]]:
    """Return keys, values and line numbers of the top-level mapping of a YAML file."""
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        root = loader.get_single_node()
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"config: {path}, line 1: expected `name: value` lines")
        repeated = [repeat for _, value in root.value for repeat in duplicate_keys(value)]
        if repeated:
            raise ConfigError(
                *(f"config: {path}, line {line}: {key} is given twice" for key, line in repeated)
            )
        return [
            (
                loader.construct_object(key, deep=True),
                loader.construct_object(value, deep=True),
                key.start_mark.line + 1,
            )
            for key, value in root.value
        ]
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise ConfigError(f"config: cannot read {path}: {reason}") from exc
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(f"config: {path}, line {line}: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"config: {path}: {exc}") from exc
