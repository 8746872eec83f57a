"""HTTP/1.1 as bytes, for the fakes of the tests: what they need of it, no HTTP library.

Nothing here touches a socket, and nothing is normalised: header names keep their case and order.
"""

from dataclasses import dataclass

HeaderList = list[tuple[bytes, bytes]]


class WireError(ValueError):
    """The bytes are not HTTP/1.1 as this module understands it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A start line and its headers, as received."""

    start_line: bytes
    headers: HeaderList
    raw: bytes
    """Every byte of the head, the empty line included."""

    def values(self, name: str) -> list[bytes]:
        """Return the values of the header `name`, ignoring case, in order."""
        return header_values(self.headers, name)


def header_values(headers: HeaderList, name: str) -> list[bytes]:
    """Return the values of the header `name`, ignoring case, in order."""
    wanted = name.lower().encode()
    return [value for key, value in headers if key.lower() == wanted]


def take_head(buffer: bytearray) -> Head | None:
    """Remove one message head from the front of `buffer`; None when it is not complete yet."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    raw = bytes(buffer[: end + 4])
    del buffer[: end + 4]
    start_line, *lines = raw[:-4].split(b"\r\n")
    headers: HeaderList = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise WireError(f"header line without a colon: {line!r}")
        headers.append((name, value.strip(b" \t")))
    return Head(start_line=start_line, headers=headers, raw=raw)


def content_length(head: Head) -> int | None:
    """Return the announced body length in bytes; None when there is no such header."""
    values = head.values("content-length")
    if not values:
        return None
    if len(set(values)) > 1 or not values[0].isdigit():
        raise WireError(f"content-length: {values!r}")
    return int(values[0])


def is_chunked(head: Head) -> bool:
    """Say whether the body comes in chunked transfer coding."""
    return any(value.lower() == b"chunked" for value in head.values("transfer-encoding"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk of a chunked body. The last one has no data."""

    data: bytes
    raw: bytes
    """The chunk with its size line, its line end and, for the last one, the trailers."""


def take_chunk(buffer: bytearray) -> Chunk | None:
    """Remove one whole chunk from the front of `buffer`; None when it is not complete yet."""
    line_end = buffer.find(b"\r\n")
    if line_end < 0:
        return None
    size_text = bytes(buffer[:line_end]).partition(b";")[0].strip()
    try:
        size_bytes = int(size_text, 16)
    except ValueError as exc:
        raise WireError(f"chunk size: {size_text!r}") from exc
    if size_bytes == 0:
        end = buffer.find(b"\r\n\r\n", line_end)
        total_bytes = end + 4 if end >= 0 else -1
    else:
        total_bytes = line_end + 2 + size_bytes + 2
    if total_bytes < 0 or len(buffer) < total_bytes:
        return None
    raw = bytes(buffer[:total_bytes])
    del buffer[:total_bytes]
    if size_bytes and not raw.endswith(b"\r\n"):
        raise WireError(f"chunk of {size_bytes} bytes does not end where its size says")
    return Chunk(data=raw[line_end + 2 : line_end + 2 + size_bytes], raw=raw)


def encode_chunk(data: bytes) -> bytes:
    """Return `data` as one chunk; empty data gives the last chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def encode_head(start_line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a message head, headers written as given."""
    lines = [start_line, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"
