"""Client bytes in, complete requests out. Parses with llhttp; owns the limits on requests.

Refuses rather than repairs: whatever llhttp finds ambiguous (both body lengths, bare line feeds,
unknown transfer codings) ends the connection, because a proxy that guesses can be smuggled through.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import httptools

from hfx_sgl.errors import (
    HeadersTooLargeError,
    MalformedHttpError,
    PayloadTooLargeError,
    RequestError,
)

Headers = list[tuple[bytes, bytes]]

_CHUNK_OVERHEAD_RATIO = 8
"""Wire bytes allowed per byte of a chunked body; a chunk of one byte costs six on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What one request may measure."""

    max_header_bytes: int = 65_536
    max_body_bytes: int = 536_870_912


class ParsedRequest:
    """One complete request. Header names are lower case, values as sent."""

    __slots__ = ("body", "fields", "headers", "is_http_10", "keep_alive", "method", "path", "query")

    def __init__(self, method: bytes, target: bytes, headers: Headers, is_http_10: bool) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.fields = dict(headers)
        """The headers by name; of repeated ones the last."""
        self.is_http_10 = is_http_10
        self.keep_alive = True
        self.body = b""


class RequestReader:
    """Feeds on whatever the transport delivers; the outcome does not depend on how it was cut.

    Complete requests gather in `ready`. `wants_continue` turns true when the client waits for
    a `100 Continue`; the owner answers and sets it back.
    """

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: Headers = []
        self._fed_bytes = 0
        self._in_head = False
        self._head_is_new = False
        self._unparsed_head_bytes = 0
        self._request: ParsedRequest | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._wire_body_bytes = 0
        self._is_chunked = False
        self.ready: deque[ParsedRequest] = deque()
        self.wants_continue = False

    @property
    def is_mid_head(self) -> bool:
        """Whether a request has begun and its headers are not complete."""
        return self._in_head

    @property
    def is_mid_body(self) -> bool:
        """Whether headers are complete and the body is not."""
        return self._request is not None

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection.

        Raises:
            RequestError: the bytes break a rule or a limit; the reader is of no use afterwards.
        """
        if self._is_chunked and self._request is not None:
            self._wire_body_bytes += len(data)
        self._fed_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as exc:
            if isinstance(exc.__context__, RequestError):
                raise exc.__context__ from None
            raise
        except httptools.HttpParserError as exc:
            raise MalformedHttpError(f"not valid HTTP/1.1: {exc}") from exc
        if self._in_head:
            self._check_unfinished_head(len(data))
            return
        self._fed_bytes = 0
        if self._is_chunked and self._request is not None:
            self._check_chunk_overhead()

    def _parse(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as exc:
                data = memoryview(data)[exc.args[0] :]
                head = self._without_upgrade()
                self._parser = httptools.HttpRequestParser(self)
                self._parser.feed_data(head)

    def _without_upgrade(self) -> bytes:
        """Take the last request back; return its head with the offer to upgrade declined.

        A server may ignore the offer (RFC 9110, 7.8), and Java's client makes it in every first
        request; but llhttp takes what follows the head for the other protocol, not for a body.
        """
        request = self.ready.pop()
        if request.method == b"CONNECT":
            raise MalformedHttpError("CONNECT is not served here")
        version = b"1.0" if request.is_http_10 else b"1.1"
        lines = [b"%b %b HTTP/%b" % (request.method, self._target, version)]
        lines += [
            b"%b: %b" % (name, value)
            for name, value in request.headers
            if name != b"upgrade" and (name != b"connection" or b"close" in value.lower())
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _check_unfinished_head(self, num_new_bytes: int) -> None:
        if self._head_is_new:  # it began somewhere inside these bytes
            self._head_is_new = False
            self._fed_bytes = num_new_bytes
            return
        self._unparsed_head_bytes += num_new_bytes
        if self._unparsed_head_bytes > self._limits.max_header_bytes:
            raise self._headers_too_large()

    def _check_head_size(self) -> None:
        num_bytes = len(self._target) + sum(
            len(name) + len(value) + 4 for name, value in self._headers
        )
        if num_bytes > self._limits.max_header_bytes:
            raise self._headers_too_large()

    def _check_chunk_overhead(self) -> None:
        allowed = self._limits.max_header_bytes + _CHUNK_OVERHEAD_RATIO * self._body_bytes
        if self._wire_body_bytes > allowed:
            raise MalformedHttpError("chunk extensions or trailers outweigh the chunked body")

    def _headers_too_large(self) -> HeadersTooLargeError:
        limit = self._limits.max_header_bytes
        return HeadersTooLargeError(f"request line and headers exceed {limit} bytes")

    # --- callbacks of the parser, in the order in which it makes them ---

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target = b""
        self._headers = []
        self._in_head = True
        self._head_is_new = True
        self._unparsed_head_bytes = 0

    def on_url(self, fragment: bytes) -> None:
        """A piece of the request target."""
        self._target += fragment

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header or trailer."""
        if self._in_head:  # otherwise it is a trailer, which nobody downstream reads
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head = False
        if self._fed_bytes > self._limits.max_header_bytes:  # only then can it be too large
            self._check_head_size()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise MalformedHttpError(f"HTTP/{version} is not served here, HTTP/1.1 is")
        target = self._target
        if not target.startswith(b"/"):
            target = _origin_form(target)
        request = self._request = ParsedRequest(
            self._parser.get_method(), target, self._headers, version == "1.0"
        )
        self._body = []
        self._body_bytes = 0
        self._wire_body_bytes = 0
        self._is_chunked = False
        self._check_framing_headers(request)

    def _check_framing_headers(self, request: ParsedRequest) -> None:
        fields = request.fields
        length = fields.get(b"content-length")
        if length is not None:
            if int(length) > self._limits.max_body_bytes:
                raise self._payload_too_large()
        elif b"transfer-encoding" in fields:
            codings = [value for name, value in self._headers if name == b"transfer-encoding"]
            if b",".join(codings).strip().lower() != b"chunked":
                raise MalformedHttpError("the only transfer-encoding served is chunked")
            self._is_chunked = True
        if fields.get(b"expect", b"").lower() == b"100-continue":
            # HTTP/1.0 knows no interim answers (RFC 9110, 10.1.1).
            self.wants_continue = not request.is_http_10

    def _payload_too_large(self) -> PayloadTooLargeError:
        limit = self._limits.max_body_bytes
        return PayloadTooLargeError(f"the body exceeds {limit} bytes (--max-payload-size)")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._payload_too_large()
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._request
        if request is None:
            raise MalformedHttpError("a message ended before its headers")
        self._request = None
        self.wants_continue = False
        # Only inside this callback does the parser still know it.
        request.keep_alive = self._parser.should_keep_alive() and not request.is_http_10
        body = self._body
        request.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        self.ready.append(request)


def _origin_form(target: bytes) -> bytes:
    """Turn an absolute-form target (`http://host/path`) into `/path`."""
    try:
        url: Any = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError as exc:
        raise MalformedHttpError("the request target is not a path") from exc
    # Both are None where the target has none, whatever the types of httptools say.
    path: bytes | None = url.path
    query: bytes | None = url.query
    if not path:
        raise MalformedHttpError("the request target is not a path")
    return path + (b"?" + query if query else b"")
