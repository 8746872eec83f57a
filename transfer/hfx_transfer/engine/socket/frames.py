"""The frames of the socket backend: bytes to values and back. Touches no socket.

One connection serves one slab. The client opens with a hello and gets a welcome; then it sends
requests, and gets a reply to each, in order. A write's bytes follow its request, a read's bytes
follow its reply if that says ok. Numbers are big-endian.

Every frame is as long as a line of the processor's cache, so that the bytes of a slab lie in the
kernel's buffers as they do in the slab, and are not copied to and from odd addresses.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

from hfx_transfer.engine.protocol import Operation

_MAGIC = b"hfx-socket-2"
_HELLO = struct.Struct(f">{len(_MAGIC)}s32sQQ4x")
_WELCOME = struct.Struct(f">{len(_MAGIC)}sB51x")
_REQUEST = struct.Struct(">BQQ47x")
_REPLY = struct.Struct(">BQ55x")

MAGIC_BYTES = len(_MAGIC)
HELLO_BYTES = _HELLO.size
WELCOME_BYTES = _WELCOME.size
REQUEST_BYTES = _REQUEST.size
REPLY_BYTES = _REPLY.size

MAX_NUMBER = (1 << 64) - 1
"""The largest id, offset or size that fits into a frame."""

_OPERATIONS = {1: Operation.READ, 2: Operation.WRITE}
_CODES = {operation: code for code, operation in _OPERATIONS.items()}


class FrameError(Exception):
    """The bytes are no frame of this protocol."""


class Status(IntEnum):
    """How the serving side answers."""

    OK = 0
    UNAUTHORIZED = 1
    """The token is not its own."""
    UNKNOWN_SLAB = 2
    """It offers no such slab, or another of that id, or does not do so any more."""
    OUT_OF_BOUNDS = 3
    """The span does not lie within the slab."""
    READ_ONLY = 4
    """The slab takes no writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client says first: its token's digest, and which slab it has come for."""

    token_digest: bytes
    slab_id: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One transfer, as the client asks for it."""

    operation: Operation
    offset: int
    size_bytes: int


def token_digest(token: str | None) -> bytes:
    """Return what is sent in place of a token; None has a digest of its own."""
    secret = b"" if token is None else b"token:" + token.encode()
    return hashlib.sha256(secret).digest()


def encode_hello(hello: Hello) -> bytes:
    """Return the frame of a hello."""
    return _HELLO.pack(_MAGIC, hello.token_digest, hello.slab_id, hello.size_bytes)


def decode_hello(frame: bytes | bytearray) -> Hello:
    """Return what HELLO_BYTES bytes say.

    Raises:
        FrameError: something else.
    """
    _check(frame, _HELLO)
    _, digest, slab_id, size_bytes = _HELLO.unpack(frame)
    return Hello(token_digest=digest, slab_id=slab_id, size_bytes=size_bytes)


def encode_welcome(status: Status) -> bytes:
    """Return the answer to a hello."""
    return _WELCOME.pack(_MAGIC, status)


def check_magic(begin: bytes | bytearray) -> None:
    """Look at the first MAGIC_BYTES of a hello or a welcome.

    Raises:
        FrameError: something else speaks there.
    """
    if begin != _MAGIC:
        raise FrameError(f"not a frame of this protocol: {bytes(begin)!r}")


def decode_welcome(frame: bytes | bytearray) -> Status:
    """Return what WELCOME_BYTES bytes say.

    Raises:
        FrameError: something else.
    """
    _check(frame, _WELCOME)
    _, code = _WELCOME.unpack(frame)
    return _status(code)


def encode_request(request: Request) -> bytes:
    """Return the frame that opens a transfer."""
    return _REQUEST.pack(_CODES[request.operation], request.offset, request.size_bytes)


def decode_request(frame: bytes | bytearray) -> Request:
    """Return what REQUEST_BYTES bytes ask for; the span may lie anywhere.

    Raises:
        FrameError: they are no request.
    """
    code, offset, size_bytes = _REQUEST.unpack(frame)
    operation = _OPERATIONS.get(code)
    if operation is None or size_bytes == 0:
        raise FrameError(f"no request has operation {code} and {size_bytes} bytes")
    return Request(operation=operation, offset=offset, size_bytes=size_bytes)


def encode_reply(status: Status, size_bytes: int) -> bytes:
    """Return the answer to a request of `size_bytes`."""
    return _REPLY.pack(status, size_bytes)


def decode_reply(frame: bytes | bytearray, size_bytes: int) -> Status:
    """Return what REPLY_BYTES bytes say about a request of `size_bytes`.

    Raises:
        FrameError: they are no reply, or one to something else.
    """
    code, answered_bytes = _REPLY.unpack(frame)
    if answered_bytes != size_bytes:
        raise FrameError(f"the answer is to {answered_bytes} bytes, not to {size_bytes}")
    return _status(code)


def _check(frame: bytes | bytearray, layout: struct.Struct) -> None:
    check_magic(frame[:MAGIC_BYTES])
    if len(frame) != layout.size:
        raise FrameError(f"a frame of {len(frame)} bytes, not of {layout.size}")


def _status(code: int) -> Status:
    try:
        return Status(code)
    except ValueError as error:
        raise FrameError(f"no status has the code {code}") from error
