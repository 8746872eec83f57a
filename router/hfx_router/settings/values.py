"""The texts that settings are made of: hosts, URLs, header names, keys. Each check names its input.

A value checked here can be put into a socket address or an HTTP header as it is.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from hfx_router.auth import ControlPlaneKey, KeyRole
from hfx_router.workers.worker import split_worker_url
from hfx_sgl.errors import ConfigError

_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_SCHEME_ADVICE = {
    "grpc": "gRPC workers are not supported; start SGLang with its HTTP server and give http://",
    "grpcs": "gRPC workers are not supported; start SGLang with its HTTP server and give http://",
    "https": "TLS to workers is not supported; give http://, through a TLS sidecar if need be",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillTarget:
    """One `--prefill`. Without a port the worker is asked for its own."""

    url: str
    bootstrap_port: int | None = None


def split_items(value: object) -> object:
    """Turn one text into a list: a JSON array, or items between commas. A list stays as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except json.JSONDecodeError as exc:
            raise ValueError(f"not a JSON array: {exc.msg} at character {exc.pos}") from exc
    return [item.strip() for item in value.split(",") if item.strip()]


def check_future_file(path: str) -> str:
    """Accept the path of a file that can be written: its folder is there."""
    if not Path(path).parent.is_dir():
        raise ValueError(f"{path!r}: there is no folder {str(Path(path).parent)!r}")
    if Path(path).is_dir():
        raise ValueError(f"{path!r} is a folder")
    return path


def check_host(host: str) -> str:
    """Accept an IPv4 address, an IPv6 address without brackets, or a host name."""
    try:
        ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        is_name = len(host) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in labels)
        if not is_name or labels[-1].isdecimal():
            raise ValueError(
                f"{host!r} is not an IPv4 address, IPv6 address (no brackets) or host name"
            ) from None
    return host


def check_worker_url(url: str) -> str:
    """Accept `http://HOST[:PORT]` and drop a trailing slash."""
    if not _VISIBLE_ASCII.fullmatch(url):
        raise ValueError(f"{url!r} is not a URL (blank or non-ASCII characters)")
    scheme = url.partition("://")[0].lower()
    if scheme in _SCHEME_ADVICE:
        raise ValueError(f"{url!r}: {_SCHEME_ADVICE[scheme]}")
    try:
        host, _ = split_worker_url(url)
    except ConfigError as exc:
        raise ValueError(str(exc).removeprefix("worker url: ")) from exc
    if urlsplit(url).port == 0:
        raise ValueError(f"{url!r}: port 0 cannot be reached")
    check_host(host)
    return url.rstrip("/")


def parse_prefill(value: object) -> object:
    """Turn `"URL"`, `"URL PORT"` or `[URL, PORT]` into a target; PORT may be `none`."""
    if isinstance(value, PrefillTarget):
        return value
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not 1 <= len(words) <= 2:
        raise ValueError(f"expected URL [BOOTSTRAP_PORT|none], got {value!r}")
    if not isinstance(words[0], str):
        raise ValueError(f"expected a URL, got {words[0]!r}")
    return PrefillTarget(
        url=check_worker_url(words[0]),
        bootstrap_port=_parse_bootstrap_port(words[1]) if len(words) == 2 else None,
    )


def _parse_bootstrap_port(word: object) -> int | None:
    text = str(word).lower()
    if word is None or text == "none":
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"bootstrap port must be 1 to 65535 or none, got {word!r}")
    return int(text)


def parse_control_plane_key(value: object) -> object:
    """Turn `id:name:role:key` into its parts; the key itself may hold colons."""
    if isinstance(value, ControlPlaneKey):
        return value
    parts = value.split(":", 3) if isinstance(value, str) else []
    if len(parts) != 4 or not all(parts):
        raise ValueError("expected id:name:role:key")
    key_id, name, role, key = parts
    if role.lower() not in tuple(KeyRole):
        # The value is not shown: with the parts in another order it is the key.
        raise ValueError("expected id:name:role:key with admin or user for the role")
    return ControlPlaneKey(
        key_id=key_id, name=name, role=KeyRole(role.lower()), secret=check_token(key)
    )


def check_token(token: str) -> str:
    """Accept what fits behind `Bearer ` in a header."""
    if not _VISIBLE_ASCII.fullmatch(token):
        raise ValueError("a key must be visible ASCII characters, at least one")
    return token


def check_header_name(name: str) -> str:
    """Accept an HTTP header name and return it in lower case."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not an HTTP header name")
    return name.lower()


def check_origin(origin: str) -> str:
    """Accept `*`, `null` or `scheme://host[:port]`."""
    if origin in ("*", "null"):
        return origin
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[\x21-\x2e\x30-\x7e]+", origin):
        raise ValueError(f"{origin!r} is not * or scheme://host[:port] without a path")
    return origin


def check_url_path(path: str) -> str:
    """Accept an absolute path, query included, that can stand in a request line."""
    if not path.startswith("/") or not _VISIBLE_ASCII.fullmatch(path):
        raise ValueError(f"{path!r} is not an absolute URL path (/health)")
    return path


def check_buckets(bounds: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Accept histogram bounds that are positive and ascend; None keeps the built-in ones."""
    if bounds is None:
        return None
    if not bounds or bounds[0] <= 0 or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError("bounds must be above 0 and ascend")
    return bounds


def _each(parse: Callable[[object], object]) -> Callable[[object], object]:
    def parse_all(value: object) -> object:
        items = split_items(value)
        return [parse(item) for item in items] if isinstance(items, list | tuple) else items

    return parse_all


Host = Annotated[str, AfterValidator(check_host)]
Token = Annotated[str, AfterValidator(check_token)]
UrlPath = Annotated[str, AfterValidator(check_url_path)]
FutureFile = Annotated[str, AfterValidator(check_future_file)]
Directory = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(split_items)]
WorkerUrls = Annotated[
    tuple[Annotated[str, AfterValidator(check_worker_url)], ...], BeforeValidator(split_items)
]
HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(check_header_name)], ...], BeforeValidator(split_items)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(check_origin)], ...], BeforeValidator(split_items)
]
Buckets = Annotated[
    tuple[float, ...] | None, BeforeValidator(split_items), AfterValidator(check_buckets)
]
PrefillTargets = Annotated[tuple[PrefillTarget, ...], BeforeValidator(_each(parse_prefill))]
ControlPlaneKeys = Annotated[
    tuple[ControlPlaneKey, ...], BeforeValidator(_each(parse_control_plane_key))
]
