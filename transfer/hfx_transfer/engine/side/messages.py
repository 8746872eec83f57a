"""What the two processes say to each other: one message in each packet, and no packet in parts."""

import contextlib
import select
import socket
from typing import Any

import msgspec

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle
from hfx_transfer.engine.settings import EngineSettings

_BUFFER_BYTES = 1 << 20
"""Asked of the kernel, which grants what it is configured for; 2000 slabs need 200 kB."""


class SlabName(msgspec.Struct, frozen=True, kw_only=True):
    """Shared memory."""

    name: str
    size_bytes: int


class Start(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message: make the backend."""

    factory: str
    """`module:callable`, which takes the settings."""
    settings: EngineSettings


class Register(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let peers reach these; answered with their handles."""

    call: int
    slabs: list[SlabName]
    writable: bool


class Unregister(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let nobody begin to reach these; answered with nothing."""

    call: int
    slabs: list[SlabName]


class Connect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Reach a peer; answered with nothing, `peer` names it from then on."""

    call: int
    peer: int
    handle: RegionHandle
    first_contact_timeout_s: float


class Probe(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Look for a sign of life; answered with seconds, or nothing."""

    call: int
    session: str
    timeout_s: float


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Begin a transfer; ended by a Final."""

    ticket: int
    peer: int
    operation: Operation
    slab: SlabName
    local_offset: int
    remote_offset: int
    size_bytes: int


class ClosePeer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let go of a peer."""

    peer: int


class Ping(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Show that the loop turns."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The backend runs."""

    backend: Backend
    transport: str


class NotStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It does not, and the process ends."""

    message: str
    fault: TransferFault | None
    """None for a configuration that it does not accept."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a call returned."""

    call: int
    handles: list[RegionHandle] = []
    latency_s: float | None = None


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a call raised."""

    call: int
    message: str
    fault: TransferFault


class Final(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A transfer is over; without a fault it is done."""

    ticket: int
    fault: TransferFault | None


class Pong(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The loop turns."""


Command = Register | Unregister | Connect | Probe | Submit | ClosePeer | Ping
Report = Started | NotStarted | Answer | Failure | Final | Pong


class Wire:
    """One end of the connection. Packets are whole or absent, so threads may share it.

    Args:
        end: a connected AF_UNIX, SOCK_SEQPACKET socket; owned from here on.
        incoming: the type of what the other end sends.
    """

    def __init__(self, end: socket.socket, incoming: Any) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        self._end = end
        self._decoder = msgspec.msgpack.Decoder(incoming)

    def send(self, message: msgspec.Struct) -> None:
        """Send, waiting for room.

        Raises:
            OSError: the other end is gone, or the message is too long.
        """
        self._end.send(msgspec.msgpack.encode(message))

    def send_at_once(self, message: msgspec.Struct) -> None:
        """Send without waiting.

        Raises:
            OSError: as `send`; BlockingIOError when the other end does not read.
        """
        self._end.send(msgspec.msgpack.encode(message), socket.MSG_DONTWAIT)

    def receive(self, timeout_s: float | None) -> Any:
        """Return the next message, None when none came in time.

        Raises:
            EOFError: the other end is gone.
        """
        # Not a timeout of the socket, which would hold for those who send meanwhile.
        poller = select.poll()
        poller.register(self._end, select.POLLIN)
        if not poller.poll(None if timeout_s is None else timeout_s * 1000):
            return None
        try:
            packet = self._end.recv(_BUFFER_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError from error
        if not packet:
            raise EOFError
        return self._decoder.decode(packet)

    def shut(self) -> None:
        """End the conversation; both ends notice."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        self._end.close()
