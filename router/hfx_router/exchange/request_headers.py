"""Which request headers a worker gets to see, and where the request id comes from."""

import random
from collections.abc import Sequence

from hfx_router.http1.request_reader import Headers

FORWARDED = frozenset(
    (
        b"accept", b"authorization", b"baggage", b"content-type", b"traceparent", b"tracestate",
        b"x-correlation-id", b"x-smg-priority", b"x-smg-routing-key",
    )
)  # fmt: skip
"""What sglang-router 0.3.2 forwards, plus content negotiation, trace baggage and priority."""

FORWARDED_PREFIXES = (b"x-llm-d-", b"x-request-id-", b"x-sgl-", b"x-slo-")
"""Families of headers that speak of promises and ids. Everything else stops here: above all
`x-override-*`, with which a client could pair a decode worker with an address of its own."""

DEFAULT_ID_HEADERS = ("x-request-id", "x-correlation-id", "x-trace-id", "request-id")

_MAX_ID_BYTES = 256
"""A longer id is a mistake or an attack, and it is echoed into logs and answers."""


def forwarded_lines(headers: Headers) -> bytes:
    """Return the header lines for the worker, each with its line end, without framing and id."""
    lines = b""
    for name, value in headers:
        if name in FORWARDED or (name[:2] == b"x-" and name.startswith(FORWARDED_PREFIXES)):
            lines += b"%b: %b\r\n" % (name, value)
    return lines


class RequestIds:
    """Takes the client's request id or makes one as OpenAI's endpoints would."""

    def __init__(self, header_names: Sequence[str], rng: random.Random) -> None:
        self._names = tuple(name.lower().encode() for name in header_names or DEFAULT_ID_HEADERS)
        self._name_set = frozenset(self._names)
        self._rng = rng

    def request_id(self, headers: dict[bytes, bytes], prefix: str) -> bytes:
        """Return the first id that the client sent, else `prefix` and 24 characters."""
        if not self._name_set.isdisjoint(headers):
            for name in self._names:
                value = headers.get(name)
                if value and len(value) <= _MAX_ID_BYTES:
                    return value
        return b"%b%024x" % (prefix.encode(), self._rng.getrandbits(96))
