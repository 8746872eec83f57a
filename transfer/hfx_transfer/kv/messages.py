"""What the two sides of KV hand-offs tell each other, and the frames it travels in.

A frame is its length (4 bytes, big-endian) and one message in MessagePack. The sender connects.
"""

import asyncio
from typing import Final, TypeVar

import msgspec

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import RegionHandle
from hfx_transfer.kv.coverage import Piece
from hfx_transfer.kv.layout import KvLayout
from hfx_transfer.kv.pages import PageRun

VERSION: Final = 1
MAX_FRAME_BYTES: Final = 16 << 20
"""A ticket of a million scattered pages takes 8 MiB."""

_LENGTH_BYTES = 4

_T = TypeVar("_T")


class Hello(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The sender's first word."""

    version: int
    token: str | None
    sender_id: str
    """The same after a reconnect, and no other sender's."""
    life_host: str
    life_port: int
    """Where its process is to be found while it exists."""
    layout: KvLayout


class Attach(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The sender asks where to write."""

    handoff_id: str


class GiveUp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The sender will not finish; `Settled` follows when nothing is under way any more."""

    handoff_id: str
    fault: TransferFault
    reason: str


class Commit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The last chunk is written; each transfer ended well."""

    handoff_id: str
    num_tokens: int
    metadata: bytes
    """What the engines have to tell each other, such as the first token."""
    pieces: tuple[Piece, ...]


class Settled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Nothing of a hand-off that was not committed is under way any more."""

    handoff_id: str
    is_clean: bool
    """Whether each transfer ended well."""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The receiver's first word."""

    receiver_id: str


class Refused(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The receiver's first and last word."""

    fault: TransferFault
    reason: str


class TicketIssued(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """Where to write."""

    handoff_id: str
    layout: KvLayout
    regions: tuple[RegionHandle, ...]
    """One for each slab."""
    runs: tuple[PageRun, ...]
    max_tokens: int
    time_left_s: float | None
    """Until the receiver gives up; None: it does not."""


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The receiver has no use for it; the sender settles."""

    handoff_id: str
    fault: TransferFault
    reason: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """How a committed hand-off ended."""

    handoff_id: str
    fault: TransferFault | None
    """None: verified."""
    reason: str = ""


class Noted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=True):
    """The receiver knows that a hand-off has settled; the sender may forget it."""

    handoff_id: str


FromSender = Hello | Attach | GiveUp | Commit | Settled
FromReceiver = Welcome | Refused | TicketIssued | Stop | Verdict | Noted

_FROM_SENDER: msgspec.msgpack.Decoder[FromSender] = msgspec.msgpack.Decoder(FromSender)
_FROM_RECEIVER: msgspec.msgpack.Decoder[FromReceiver] = msgspec.msgpack.Decoder(FromReceiver)
_ENCODER = msgspec.msgpack.Encoder()


def frame(message: FromSender | FromReceiver) -> bytes:
    """Return a message as it goes over the wire.

    Raises:
        ValueError: it is too long.
    """
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(body)} bytes is too long")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_from_sender(reader: asyncio.StreamReader) -> FromSender:
    """Return the next message of a sender.

    Raises:
        TransferError: PROTOCOL, it is none.
        OSError, EOFError: the connection has ended.
    """
    return _decode(await _read_body(reader), _FROM_SENDER)


async def read_from_receiver(reader: asyncio.StreamReader) -> FromReceiver:
    """Return the next message of a receiver; see `read_from_sender`."""
    return _decode(await _read_body(reader), _FROM_RECEIVER)


async def _read_body(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > MAX_FRAME_BYTES:
        message = f"a frame of {length} bytes is none of ours"
        raise TransferError(message, fault=TransferFault.PROTOCOL)
    return await reader.readexactly(length)


def _decode(body: bytes, decoder: msgspec.msgpack.Decoder[_T]) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as exc:
        message = f"no message of a KV hand-off: {exc}"
        raise TransferError(message, fault=TransferFault.PROTOCOL) from exc
