"""Reads what a request asks for from its headers and its body, and says what it was promised.

Milliseconds and tokens per second end here.
"""

import math
import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import UNSET, Raw, UnsetType

from hfx_router.auth import bearer_token
from hfx_router.body.inspect import RoutingFields, StatedBounds
from hfx_router.exchange.endpoints import Endpoint
from hfx_router.http1.request_reader import ParsedRequest
from hfx_sgl.errors import InvalidRequestError, UnauthorizedError
from hfx_sgl.policy.slo.config import RequestTraits, SloConfig
from hfx_sgl.policy.slo.resolve import NO_PROMISE, NOTHING, Promise, SloResolver, StatedSlo
from hfx_sgl.slo import Slo

ECHO_HEADER = b"x-hfx-slo"
"""Asks for the promise to be told in the answer, in a header of the same name."""

CLASS_HEADER = b"x-slo-class"

_MS_PER_S = 1000.0


def _from_ms(value_ms: float) -> float:
    return value_ms / _MS_PER_S


def _from_rate(tokens_per_s: float) -> float:
    return 1 / tokens_per_s


_BOUND_HEADERS: Mapping[bytes, tuple[str, Callable[[float], float]]] = {
    b"x-slo-ttft-ms": ("ttft_s", _from_ms),
    b"x-slo-tpot-ms": ("tpot_s", _from_ms),
    b"x-llm-d-slo-ttft-ms": ("ttft_s", _from_ms),
    b"x-llm-d-slo-tpot-ms": ("tpot_s", _from_ms),
    b"x-sgl-ttft-slo-ms": ("ttft_s", _from_ms),
    b"x-sgl-tps-slo": ("tpot_s", _from_rate),
}
"""The families, in the order in which they are believed: ours, llm-d's, SGLang's."""

_SLO_HEADERS = (*_BOUND_HEADERS, CLASS_HEADER)
_SLO_HEADER_SET = frozenset(_SLO_HEADERS)

_MAX_KNOWN = 4096
"""How many combinations of header values are remembered. Clients say the same again and again; one
that never does makes the memory start anew, and costs what reading its headers costs."""

_NUMBER = re.compile(r"[0-9.eE+-]{1,40}")
"""Keeps out what Python reads as a number besides: nan, inf, underscores, blanks, other digits."""

_MAX_SHOWN_CHARS = 64


_UNREAD = RequestTraits(path="")
"""Stands in where there is no rule to look at it."""


class Promises:
    """Finds the promise of every request by one configuration."""

    def __init__(self, config: SloConfig) -> None:
        self._resolver = SloResolver(config)
        self._has_rules = bool(config.rules)
        self._known: dict[tuple[bytes | None, ...], Promise] = {}
        """Promises by the values of all SLO headers, for requests that say no more than these."""

    def promise(self, request: ParsedRequest, fields: RoutingFields, endpoint: Endpoint) -> Promise:
        """Return what a request is promised.

        Raises:
            InvalidRequestError: a bound is no positive finite number, or the class is unknown;
                `param` names the header or the field.
        """
        if not endpoint.infers:
            return NO_PROMISE
        is_body_silent = fields.slo is UNSET and fields.slo_class is UNSET
        asks_nothing = is_body_silent and _SLO_HEADER_SET.isdisjoint(request.fields)
        if self._has_rules:
            traits = _traits(request, fields, endpoint)
            if asks_nothing:
                return self._resolver.unstated(traits)
            return self._of_stated(request.fields, fields, traits)
        if asks_nothing:
            return self._resolver.default
        if not is_body_silent:
            return self._of_stated(request.fields, fields, _UNREAD)
        stated_in_headers = tuple(map(request.fields.get, _SLO_HEADERS))
        promise = self._known.get(stated_in_headers)
        if promise is None:
            promise = self._of_stated(request.fields, fields, _UNREAD)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[stated_in_headers] = promise
        return promise

    def _of_stated(
        self, headers: dict[bytes, bytes], fields: RoutingFields, traits: RequestTraits
    ) -> Promise:
        param, class_name = _named_class(headers, fields)
        stated = StatedSlo(
            in_headers=header_bounds(headers),
            in_body=body_bounds(fields.slo),
            class_name=class_name,
        )
        promise = self._resolver.stated(stated, traits)
        if promise is None:
            shown = (class_name or "")[:_MAX_SHOWN_CHARS]
            known = ", ".join(self._resolver.config.classes)
            raise InvalidRequestError(
                f"{param}: there is no class {shown!r}; there are {known}", param=param
            )
        return promise


def header_bounds(headers: Mapping[bytes, bytes]) -> Slo:
    """Return the bounds in a request's headers.

    Raises:
        InvalidRequestError: one of them is no positive finite number.
    """
    found: dict[str, float] = {}
    for name, (bound, to_seconds) in _BOUND_HEADERS.items():
        value = headers.get(name)
        if value is not None:
            text = value.decode("latin-1").strip()
            found.setdefault(bound, _seconds(name.decode(), text, _number(text), to_seconds))
    return Slo(**found) if found else NOTHING


def body_bounds(slo: StatedBounds | UnsetType | None) -> Slo:
    """Return the bounds in the body field `slo`; null says nothing.

    Raises:
        InvalidRequestError: one of them is no positive finite number.
    """
    if slo is UNSET or slo is None:
        return NOTHING
    found = {
        f"{bound}_s": _seconds(f"slo.{bound}_ms", repr(value_ms), value_ms, _from_ms)
        for bound, value_ms in (("ttft", slo.ttft_ms), ("tpot", slo.tpot_ms), ("e2e", slo.e2e_ms))
        if value_ms is not None
    }
    return Slo(**found)


def echo_line(promise: Promise) -> bytes:
    """Return the header line that tells a client what it was promised."""
    parts = [] if promise.class_name is None else [f"class={promise.class_name}"]
    slo = promise.slo
    for name, bound_s in (("ttft", slo.ttft_s), ("tpot", slo.tpot_s), ("e2e", slo.e2e_s)):
        if bound_s < math.inf:
            parts.append(f"{name}_ms={_MS_PER_S * bound_s:.15g}")
    parts.append(f"source={promise.source}")
    return b"%b: %b\r\n" % (ECHO_HEADER, "; ".join(parts).encode())


def _number(text: str) -> float:
    """Return the number that a text is; nan for any other text."""
    if _NUMBER.fullmatch(text) is None:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(param: str, text: str, number: float, to_seconds: Callable[[float], float]) -> float:
    bound_s = to_seconds(number) if number > 0 else math.nan
    if 0 < bound_s < math.inf:
        return bound_s
    raise InvalidRequestError(
        f"{param}: {text[:_MAX_SHOWN_CHARS]!r} is not a positive finite number", param=param
    )


def _named_class(headers: Mapping[bytes, bytes], fields: RoutingFields) -> tuple[str, str | None]:
    """Return where the class is named, and the name; None where none is."""
    value = headers.get(CLASS_HEADER)
    if value is not None:
        return CLASS_HEADER.decode(), value.decode("latin-1").strip()
    return "slo_class", None if fields.slo_class is UNSET else fields.slo_class


def _traits(request: ParsedRequest, fields: RoutingFields, endpoint: Endpoint) -> RequestTraits:
    try:
        api_key = bearer_token(request.fields.get(b"authorization"))
    except UnauthorizedError:
        api_key = None
    return RequestTraits(path=endpoint.path, model=_text(fields.model), api_key=api_key)


def _text(raw: Raw | UnsetType) -> str | None:
    """Return the text that a JSON value is; None for any other value."""
    if raw is UNSET:
        return None
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if isinstance(value, str) else None
