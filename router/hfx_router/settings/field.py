"""How a setting is declared: value, bounds, help text, group, status and shape on the command line.

Flags, variables, file keys and the docs page are all derived from what is declared here.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

YEAR_SECS = 365 * 24 * 3600
"""Upper bound of durations: anything longer is a typing error."""

U32_MAX = 2**32 - 1
"""Upper bound of counts: that of sglang-router, whose command lines have to keep working."""


class Group(StrEnum):
    """Headings of `--help` and of the docs page, in their order."""

    SERVER = "Server"
    WORKERS = "Workers"
    PD = "PD disaggregation"
    POLICY = "Routing policy"
    SLO = "Promises"
    REQUESTS = "Requests"
    ADMISSION = "Admission"
    CONNECTIONS = "Connections"
    RETRIES = "Retries"
    BREAKER = "Circuit breaker"
    HEALTH = "Health checks"
    LOGGING = "Logging"
    METRICS = "Metrics"
    SECURITY = "API keys"
    TRACING = "Tracing"
    TOKENIZER = "Tokenizer and parsers"
    DISCOVERY = "Service discovery"
    TLS = "TLS"
    JWT = "JWT"
    BACKEND = "Backend and storage"


class Status(StrEnum):
    """What becomes of a value that differs from the default."""

    BACKED = "works"
    UNBACKED = "no effect"
    REFUSED = "refused"


class Arity(StrEnum):
    """How many words follow the flag, and whether it may be repeated. Booleans take none."""

    ONE = "one"
    ANY = "any"
    SOME = "some"
    REPEATED = "repeated"
    REPEATED_SOME = "repeated some"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What pydantic does not know about a field."""

    group: Group
    status: Status
    advice: str
    """For a field that is not backed: what happens, or what to do instead."""
    harmless: tuple[str, ...]
    """Values of a refused field that are as good as its default."""
    arity: Arity
    metavar: str
    """Stands for the value in help texts; empty derives it from the type."""
    is_secret: bool


class SettingsFields(BaseModel):
    """Base of every group of fields: immutable, no unknown names, no nan or inf."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def setting(
    default: object,
    description: str,
    *,
    group: Group,
    status: Status = Status.BACKED,
    advice: str = "",
    harmless: tuple[str, ...] = (),
    arity: Arity = Arity.ONE,
    metavar: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    is_secret: bool = False,
) -> Any:
    """Declare one field. A secret is left out of the model's `repr` and of error messages."""
    traits = Traits(
        group=group,
        status=status,
        advice=advice,
        harmless=harmless,
        arity=arity,
        metavar=metavar,
        is_secret=is_secret,
    )
    return Field(
        default,
        description=description,
        repr=not is_secret,
        json_schema_extra=asdict(traits),
        ge=ge,
        gt=gt,
        le=le,
    )


def traits_of(field: FieldInfo) -> Traits:
    """Return what `setting` was told about a field of the model."""
    extra: Any = field.json_schema_extra
    return Traits(**extra)
