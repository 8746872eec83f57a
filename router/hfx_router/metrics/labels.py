"""Label values: enums, configuration, and text from workers made safe. Reads no request."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from hfx_sgl.types import Role

MAX_LABEL_CHARS = 256
CONNECTION_MODE = "http"
ROUTER_TYPE = "http"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLabels:
    """Label values that the configuration fixes for the life of the process."""

    backend_type: Literal["regular", "pd"]
    policies: Mapping[Role, str]
    """Name of the selection policy of each role."""
    version: str


class Outcome(StrEnum):
    """How a routed request ended, as the client saw it."""

    COMPLETED = "completed"
    CLIENT_ERROR = "client_error"
    REJECTED = "rejected"
    EVICTED = "evicted"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    UPSTREAM_ERROR = "upstream_error"
    INTERNAL_ERROR = "internal_error"


class ErrorType(StrEnum):
    """The `error_type` values of the contract."""

    NO_WORKERS = "no_workers"
    TIMEOUT = "timeout"
    BACKEND = "backend_error"
    VALIDATION = "validation_error"
    INTERNAL = "internal_error"


_OUTCOMES: dict[tuple[int, str], Outcome] = {
    (429, "queue_deadline_exceeded"): Outcome.EVICTED,
    (500, "internal_error"): Outcome.INTERNAL_ERROR,
    (501, "not_supported"): Outcome.CLIENT_ERROR,
}

_OUTCOMES_BY_STATUS: dict[int, Outcome] = {
    429: Outcome.REJECTED,
    499: Outcome.CANCELLED,
    503: Outcome.UNAVAILABLE,
    504: Outcome.TIMEOUT,
}

_ERROR_TYPES: dict[Outcome, ErrorType] = {
    Outcome.CLIENT_ERROR: ErrorType.VALIDATION,
    Outcome.REJECTED: ErrorType.BACKEND,
    Outcome.EVICTED: ErrorType.TIMEOUT,
    Outcome.UNAVAILABLE: ErrorType.BACKEND,
    Outcome.TIMEOUT: ErrorType.TIMEOUT,
    Outcome.UPSTREAM_ERROR: ErrorType.BACKEND,
    Outcome.INTERNAL_ERROR: ErrorType.INTERNAL,
}


def outcome_of(status: int, error_code: str) -> Outcome:
    """Return how a request with this answer ended; `error_code` is '' for a worker's own answer."""
    special = _OUTCOMES.get((status, error_code)) or _OUTCOMES_BY_STATUS.get(status)
    if special is not None:
        return special
    if status < 400:
        return Outcome.COMPLETED
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.UPSTREAM_ERROR


def error_type_of(status: int, error_code: str) -> ErrorType | None:
    """Return the contract's name for the error; None when the request did not fail."""
    if status == 503 and error_code:
        return ErrorType.NO_WORKERS
    if status == 408:
        return ErrorType.TIMEOUT
    return _ERROR_TYPES.get(outcome_of(status, error_code))


def was_routed(status: int, error_code: str) -> bool:
    """Say whether the request got as far as choosing a worker.

    A 4xx of our own (bad key, malformed body, full queue) ends before that; sglang-router does
    not count those as routed either. 499 is a client that left, usually from a stream.
    """
    return status == 499 or not (error_code and 400 <= status < 500)


def status_label(status: int) -> str:
    """Return the status as text; what is no HTTP status becomes `other`."""
    return str(status) if 100 <= status <= 599 else "other"


def clean(text: object) -> str:
    """Return text that any encoder can write and no reply of a worker can make huge.

    Lone surrogates reach us through JSON escapes and command lines; UTF-8 cannot carry them.
    """
    return str(text)[:MAX_LABEL_CHARS].encode("utf-8", "replace").decode("utf-8")
