"""Where a worker's answer ends. Walks the framing of a body and leaves the wire bytes as they are.

`feed(data)` says how many of the bytes belong to this body, so that they can be passed on as they
are; `on_payload`, when given, also receives the payload without its framing.
"""

from collections.abc import Callable
from typing import Protocol

from hfx_router.http1.response_head import ResponseFormatError, ResponseHead

PayloadSink = Callable[[bytes], None]

_HEX_DIGITS = b"0123456789abcdefABCDEF"
_SHORT_LINE_BYTES = 12
"""A chunk-size line without extensions, its end included."""

_MAX_LINE_BYTES = 4096
"""Longest chunk-size or trailer line taken; SGLang's are under ten bytes."""


class BodyFraming(Protocol):
    """The end of one body."""

    is_complete: bool
    """Whether the last byte of the body has been fed."""

    @property
    def is_aligned(self) -> bool:
        """Whether more payload could be framed in after the bytes fed so far."""
        ...

    def feed(self, data: bytes) -> int:
        """Return how many bytes of `data` belong to this body: all, unless it ends among them."""
        ...

    def end(self) -> bool:
        """The connection closed; return whether that completes the body."""
        ...


class LengthBody:
    """A body of `content-length` bytes."""

    is_aligned = False

    def __init__(self, num_bytes: int, on_payload: PayloadSink | None) -> None:
        self._left_bytes = num_bytes
        self._on_payload = on_payload
        self.is_complete = num_bytes == 0

    def feed(self, data: bytes) -> int:
        """See BodyFraming."""
        num_bytes = len(data)
        if num_bytes >= self._left_bytes:
            num_bytes = self._left_bytes
            self.is_complete = True
        self._left_bytes -= num_bytes
        if self._on_payload is not None and num_bytes:
            self._on_payload(data if num_bytes == len(data) else data[:num_bytes])
        return num_bytes

    def end(self) -> bool:
        """See BodyFraming."""
        return self.is_complete


class UntilCloseBody:
    """A body that ends with its connection."""

    is_aligned = False
    is_complete = False

    def __init__(self, on_payload: PayloadSink | None) -> None:
        self._on_payload = on_payload

    def feed(self, data: bytes) -> int:
        """See BodyFraming."""
        if self._on_payload is not None:
            self._on_payload(data)
        return len(data)

    def end(self) -> bool:
        """See BodyFraming."""
        return True


class ChunkedBody:
    """A chunked body (RFC 9112, 7.1)."""

    def __init__(self, on_payload: PayloadSink | None) -> None:
        self._on_payload = on_payload
        self._line = b""
        self._payload_left_bytes = 0
        self._after_payload = False
        self._in_trailer = False
        self._is_at_chunk = True
        self.is_complete = False

    @property
    def is_aligned(self) -> bool:
        """See BodyFraming."""
        return not (
            self._line
            or self._payload_left_bytes
            or self._after_payload
            or self._in_trailer
            or self.is_complete
        )

    def feed(self, data: bytes) -> int:
        """See BodyFraming.

        Raises:
            ResponseFormatError: the chunk framing is broken.
        """
        position = self._take_whole_chunks(data) if self._is_at_chunk else 0
        end = len(data)
        if position == end:
            return end
        while position < end and not self.is_complete:
            if self._payload_left_bytes:
                position = self._take_payload(data, position)
            else:
                position = self._take_line(data, position)
        self._is_at_chunk = self.is_aligned
        return position

    def _take_whole_chunks(self, data: bytes) -> int:
        """Take the chunks that are complete in `data`; return where the rest begins.

        Servers of event streams send one chunk at a time, so there seldom is a rest.
        """
        on_payload = self._on_payload
        position = 0
        while (eol := data.find(b"\r\n", position, position + _SHORT_LINE_BYTES)) > position:
            digits = data[position:eol]
            if digits.translate(None, _HEX_DIGITS):
                break
            start = eol + 2
            stop = start + int(digits, 16)
            if stop == start or data[stop : stop + 2] != b"\r\n":
                break
            if on_payload is not None:
                on_payload(data[start:stop])
            position = stop + 2
        return position

    def _take_payload(self, data: bytes, position: int) -> int:
        stop = position + self._payload_left_bytes
        piece = data[position:stop]
        self._payload_left_bytes -= len(piece)
        if self._on_payload is not None:
            self._on_payload(piece)
        return position + len(piece)

    def _take_line(self, data: bytes, position: int) -> int:
        eol = data.find(b"\n", position)
        if eol < 0:
            self._line += data[position:]
            if len(self._line) > _MAX_LINE_BYTES:
                raise ResponseFormatError("chunk line too long")
            return len(data)
        line = data[position:eol]
        if self._line:
            line = self._line + line
            self._line = b""
        if len(line) > _MAX_LINE_BYTES:
            raise ResponseFormatError("chunk line too long")
        if line[-1:] != b"\r":
            raise ResponseFormatError("chunk line without CRLF")
        if self._after_payload:
            if line != b"\r":
                raise ResponseFormatError("chunk longer than its size")
            self._after_payload = False
        elif self._in_trailer:
            self.is_complete = line == b"\r"
        else:
            self._begin_chunk(line)
        return eol + 1

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0].rstrip()
        if not digits or len(digits) > 16 or digits.translate(None, _HEX_DIGITS):
            raise ResponseFormatError(f"not a chunk size: {line[:20]!r}")
        size_bytes = int(digits, 16)
        if size_bytes:
            self._payload_left_bytes = size_bytes
            self._after_payload = True
        else:
            self._in_trailer = True

    def end(self) -> bool:
        """See BodyFraming."""
        return self.is_complete


def framing_of(head: ResponseHead, on_payload: PayloadSink | None) -> BodyFraming:
    """Choose the framing that the head announces (RFC 9112, 6.3; answers to POST only)."""
    if head.status in (204, 304):
        return LengthBody(0, on_payload)
    if head.is_chunked:
        return ChunkedBody(on_payload)
    if head.content_length is not None:
        return LengthBody(head.content_length, on_payload)
    return UntilCloseBody(on_payload)
