"""The setting `slo`: a YAML block, or a file that holds one, turned into what the core takes.

No message shows a value, since a rule may hold an API key.
"""

import math
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator

from hfx_router.exchange.endpoints import ENDPOINTS
from hfx_router.settings.values import check_token
from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.slo.config import SloConfig, SloRule
from hfx_sgl.slo import Slo
from hfx_sgl.yaml_file import StrictModel, first_problems, read_yaml

Bound = Annotated[float, Field(gt=0, strict=True)]
Text = Annotated[str, StringConstraints(min_length=1)]

_REWORDED = (("Value error, ", ""), ("Input should be", "must be"), ("valid tuple", "list"))
"""pydantic's words, and those of the other settings."""

_PATHS = tuple(endpoint.path for endpoint in ENDPOINTS if endpoint.infers)


class _Class(StrictModel):
    ttft_s: Bound | None = None
    tpot_s: Bound | None = None
    e2e_s: Bound | None = None

    def build(self) -> Slo:
        return Slo(
            ttft_s=math.inf if self.ttft_s is None else self.ttft_s,
            tpot_s=math.inf if self.tpot_s is None else self.tpot_s,
            e2e_s=math.inf if self.e2e_s is None else self.e2e_s,
        )


class _Rule(StrictModel):
    class_name: Text = Field(alias="class")
    model: Text | None = None
    path: Text | None = None
    api_key: SecretStr | None = None

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None) -> str | None:
        if path is not None and path not in _PATHS:
            raise ValueError(f"no request is served there (there are {', '.join(_PATHS)})")
        return path

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            check_token(key.get_secret_value())
        return key

    def build(self) -> SloRule:
        key = self.api_key
        return SloRule(
            class_name=self.class_name,
            model=self.model,
            path=self.path,
            api_key=None if key is None else key.get_secret_value().encode(),
        )


class _Block(StrictModel):
    classes: dict[str, _Class] = Field(default_factory=dict)
    rules: tuple[_Rule, ...] = ()
    default_class: Text | None = None

    def build(self) -> SloConfig:
        return SloConfig(
            classes={name: entry.build() for name, entry in self.classes.items()},
            rules=tuple(rule.build() for rule in self.rules),
            default_class=self.default_class,
        )


def parse_slo(value: object) -> object:
    """Turn a block, or the path of a file that holds one, into the core's configuration.

    Raises:
        ValueError: with one line for each problem, which names file and field.
    """
    if value is None or isinstance(value, SloConfig):
        return value
    prefix = ""
    try:
        if isinstance(value, str):
            block = read_yaml(Path(value), _Block)
            prefix = f"{value}: "
        else:
            block = _Block.model_validate(value)
        return block.build()
    except ConfigError as exc:
        raise ValueError("\n".join(f"{prefix}{problem}" for problem in exc.problems)) from exc
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        problems = [_problem(error["loc"], error["type"], error["msg"]) for error in errors]
        raise ValueError("\n".join(first_problems(problems))) from exc


def _problem(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    field = ""
    for part in loc:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    message = {"extra_forbidden": "unknown key", "missing": "is missing"}.get(kind, message)
    message = (
        message.removeprefix("Value error, ")
        .replace("Input should be", "must be")
        .replace("valid tuple", "list")
    )
    return f"{field}: {message}" if field else message
