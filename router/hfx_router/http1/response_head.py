"""Status line and headers of a worker's answer: checked, read, and rewritten for the client.

The head stays one piece of bytes: compiled patterns look at it and cut lines out of it, so order,
case and spelling of everything else survive, and an answer costs a microsecond.
"""

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

_HEAD = re.compile(rb"HTTP/1\.[01] [1-9]\d\d(?: [^\r\n\0]*)?(?:\r\n" + _TOKEN + rb":[^\r\n\0]*)*")
"""The whole head (RFC 9112, 4 and 5); a folded line or a bare line feed is none."""

_FRAMING_FIELDS = re.compile(
    rb"\r\n(connection|content-length|content-type|transfer-encoding):[ \t]*([^\r\n]*)"
)
"""Of a head in lower case: telling cases apart costs half of what ignoring them does."""

_HOP_BY_HOP = (
    b"connection|keep-alive|proxy-connection|proxy-authenticate|te|trailer|upgrade|x-request-id"
)
"""Headers that speak of one connection only (RFC 9110, 7.6.1), and the id, which is set anew."""

_REPLACED = re.compile(rb"\r\n(?:" + _HOP_BY_HOP + rb"):[^\r\n]*", re.IGNORECASE)
_REFRAMED = re.compile(
    rb"\r\n(?:" + _HOP_BY_HOP + rb"|content-length|transfer-encoding):[^\r\n]*", re.IGNORECASE
)

_MAX_LENGTH_DIGITS = 20
"""More digits than that are more bytes than there are, and cost more than they should to read."""


class ResponseFormatError(Exception):
    """The bytes are no HTTP/1.x answer."""


class ResponseHead(NamedTuple):
    """A worker's status line and headers."""

    status: int
    text: bytes
    """As received, without the empty line at the end."""
    content_length: int | None
    is_chunked: bool
    is_event_stream: bool
    keeps_alive: bool

    @property
    def is_plain(self) -> bool:
        """Whether its length says all about its body: neither events nor a status without one."""
        return not self.is_event_stream and self.status not in (204, 304)


def parse_response_head(text: bytes) -> ResponseHead:
    """Parse everything up to, and without, the empty line that ends a head.

    Raises:
        ResponseFormatError: not HTTP/1.0 or 1.1, or its framing is contradictory.
    """
    if _HEAD.fullmatch(text) is None:
        raise ResponseFormatError(f"not the head of an HTTP/1 answer: {text[:60]!r}")
    content_length: int | None = None
    is_chunked = is_event_stream = False
    keeps_alive = text.startswith(b"HTTP/1.1")
    for name, value in _FRAMING_FIELDS.findall(text.lower()):
        value = value.rstrip()
        if name == b"content-type":
            is_event_stream = value.startswith(b"text/event-stream")
        elif name == b"content-length":
            content_length = _content_length(value, content_length)
        elif name == b"connection":
            keeps_alive = b"close" not in value and (keeps_alive or b"keep-alive" in value)
        elif value == b"chunked":
            is_chunked = True
        else:
            raise ResponseFormatError(f"unknown transfer-encoding: {value[:40]!r}")
    if is_chunked and content_length is not None:
        raise ResponseFormatError("both content-length and transfer-encoding")
    status = int(text[9:12])
    return ResponseHead(status, text, content_length, is_chunked, is_event_stream, keeps_alive)


def _content_length(value: bytes, previous: int | None) -> int:
    if not value.isdigit() or len(value) > _MAX_LENGTH_DIGITS:
        raise ResponseFormatError(f"not a content-length: {value[:40]!r}")
    length = int(value)
    if previous not in (None, length):
        raise ResponseFormatError(f"contradictory content-length: {value[:40]!r}")
    return length


def render_response_head(
    head: ResponseHead, extra_lines: bytes, *, reframed: bool = False
) -> bytes:
    """Write the head for the client: the worker's lines but for hop-by-hop ones, then ours.

    `extra_lines` are complete header lines, each with its line end. With `reframed` the lines that
    announce the worker's framing go as well. The version is always ours.
    """
    dropped = _REFRAMED if reframed else _REPLACED
    return b"HTTP/1.1%b\r\n%b\r\n" % (dropped.sub(b"", head.text[8:]), extra_lines)
