"""What an answer says of pages that may read it."""

from collections.abc import Collection


def cors_lines(origin: bytes, allowed_origins: Collection[bytes]) -> bytes:
    """Return the header lines for a page of `origin`; where no origins are named, all may read."""
    if not allowed_origins:
        return b"access-control-allow-origin: *\r\n"
    if origin in allowed_origins:
        return b"access-control-allow-origin: %b\r\nvary: Origin\r\n" % origin
    return b""
