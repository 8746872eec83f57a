"""Status line and headers of a worker's answer: parsed, filtered, and written again for the client."""

from typing import NamedTuple

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"upgrade")
)  # fmt: skip
"""Headers that speak of one connection only (RFC 9110, 7.6.1); transfer-encoding is treated apart."""


_INTERPRETED = frozenset((b"connection", b"content-length", b"content-type", b"transfer-encoding"))


class ResponseFormatError(Exception):
    """The bytes are no HTTP/1.x answer."""


class ResponseHead(NamedTuple):
    """A worker's status line and headers."""

    status: int
    status_line: bytes
    """As received, without the line end."""
    fields: list[tuple[bytes, bytes]]
    """Lower-case name and the whole line as received, without the line end; order kept."""
    content_length: int | None
    is_chunked: bool
    is_event_stream: bool
    keeps_alive: bool


def parse_response_head(head: bytes) -> ResponseHead:
    """Parse everything up to, and without, the empty line that ends a head.

    Raises:
        ResponseFormatError: not HTTP/1.0 or 1.1, or its framing is contradictory.
    """
    lines = head.split(b"\r\n")
    status_line = lines[0]
    version = status_line[:9]
    code = status_line[9:12]
    is_code = len(code) == 3 and code.isdigit() and status_line[12:13] in (b"", b" ")
    if version not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or not is_code:
        raise ResponseFormatError(f"not a status line: {status_line[:40]!r}")
    fields: list[tuple[bytes, bytes]] = []
    content_length: int | None = None
    is_chunked = is_event_stream = False
    keeps_alive = version == b"HTTP/1.1 "
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.split() != [name]:
            raise ResponseFormatError(f"not a header line: {line[:40]!r}")
        name = name.lower()
        fields.append((name, line))
        if name in _INTERPRETED:
            value = value.strip().lower()
            if name == b"content-length":
                content_length = _content_length(value, content_length)
            elif name == b"content-type":
                is_event_stream = value.startswith(b"text/event-stream")
            elif name == b"connection":
                keeps_alive = b"close" not in value and (keeps_alive or b"keep-alive" in value)
            elif value == b"chunked":
                is_chunked = True
            else:
                raise ResponseFormatError(f"unknown transfer-encoding: {value[:40]!r}")
    if is_chunked and content_length is not None:
        raise ResponseFormatError("both content-length and transfer-encoding")
    return ResponseHead(
        int(code), status_line, fields, content_length, is_chunked, is_event_stream, keeps_alive
    )


def _content_length(value: bytes, previous: int | None) -> int:
    # More digits than Python turns into a number are more bytes than there are.
    if not value.isdigit() or len(value) > 20 or previous not in (None, int(value)):
        raise ResponseFormatError(f"contradictory content-length: {value[:40]!r}")
    return int(value)


def render_response_head(
    head: ResponseHead, dropped: frozenset[bytes], extra_lines: bytes
) -> bytes:
    """Write the head for the client: the worker's lines but for `dropped`, then `extra_lines`.

    `extra_lines` are complete header lines, each with its line end. The version is always ours.
    """
    lines = [b"HTTP/1.1" + head.status_line[8:]]
    lines += [line for name, line in head.fields if name not in dropped]
    return b"\r\n".join(lines) + b"\r\n" + extra_lines + b"\r\n"
