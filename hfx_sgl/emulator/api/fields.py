"""Typed reading of JSON bodies. Unknown fields are left alone, as the real server does."""

import math
from typing import Any

import orjson

from hfx_sgl.emulator.failures import BodyError, Json


def parse_object(data: bytes) -> Json:
    """Return the JSON object of a body.

    Raises:
        BodyError: it is none.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise BodyError(f"body: no JSON ({exc})") from exc
    if not isinstance(body, dict):
        raise BodyError("body: must be an object")
    return body


def flag(body: Json, name: str, default: bool = False) -> bool:
    """Return a truth value; a missing or null field is the default."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    raise BodyError(f"body.{name}: must be true or false, not {value!r}")


def whole(body: Json, name: str) -> int | None:
    """Return a whole number; None when the field is missing or null."""
    value = body.get(name)
    if value is None:
        return None
    if is_whole(value):
        return int(value)
    raise BodyError(f"body.{name}: must be a whole number, not {value!r}")


def number(body: Json, name: str) -> float | None:
    """Return a finite number; None when the field is missing or null."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BodyError(f"body.{name}: must be a number, not {value!r}")
    return float(value)


def string(body: Json, name: str) -> str | None:
    """Return a string; None when the field is missing or null."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise BodyError(f"body.{name}: must be a string, not {value!r}")


def is_whole(value: Any) -> bool:
    """Whether a JSON value is a whole number; `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool)
