"""Reads a YAML file into a pydantic model; every problem names file, line and field."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from hfx_sgl.errors import ConfigError

MAX_PROBLEMS = 20
"""How many problems of one file are reported; the rest is counted."""


class StrictModel(BaseModel):
    """Base of everything read from YAML: frozen, and a key that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=StrictModel)


def read_yaml(path: Path, model: type[Model]) -> Model:
    """Return the file's content as `model`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or says something impossible.
    """
    loader, root = _compose(path)
    problems = [f"{path}:{line}: {key}: given twice" for key, line in duplicate_keys(root)]
    if problems:
        raise ConfigError(*first_problems(problems))
    try:
        return model.model_validate(loader.construct_document(root))
    except ValidationError as exc:
        problems = [_problem(path, root, error) for error in exc.errors(include_url=False)]
        raise ConfigError(*first_problems(problems)) from exc


def first_problems(problems: Sequence[str]) -> list[str]:
    """Return the first problems, and a line that counts those left out."""
    rest = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"... and {rest} more"] if rest > 0 else [])]


def _compose(path: Path) -> tuple[yaml.SafeLoader, yaml.Node]:
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text") from exc
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(f"{path}:{line}: {exc.problem}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected `name: value` lines")
    return loader, root


def duplicate_keys(node: yaml.Node) -> list[tuple[str, int]]:
    """Return each key that its mapping has already, with its line."""
    found: list[tuple[str, int]] = []
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            found += duplicate_keys(item)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                found.append((name, key.start_mark.line + 1))
            seen.add(name)
            found += duplicate_keys(value)
    return found


def _problem(path: Path, root: yaml.Node, error: ErrorDetails) -> str:
    """Return one line for an error.

    Its location also holds the tags of unions, which are no keys of the file: they are left out.
    """
    node, line, field = root, root.start_mark.line + 1, ""
    for part in error["loc"]:
        child = _child(node, part)
        if child is not None:
            node, line = child
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    message = _message(error["type"], error["msg"])
    return f"{path}:{line}: {field}: {message}" if field else f"{path}:{line}: {message}"


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, int] | None:
    """Return a part of a node and the line where it starts."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _message(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
