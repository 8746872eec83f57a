"""Opens connections to a peer and greets it, all within one limit."""

import contextlib
import socket
import threading
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import RegionHandle
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.wire import EndedError, StalledError, Wire

_REFUSALS = {
    frames.Status.UNAUTHORIZED: (TransferFault.UNAUTHORIZED, "it does not accept our token"),
    frames.Status.UNKNOWN_SLAB: (TransferFault.UNREACHABLE, "it offers no such slab"),
}

_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def dial(
    handle: RegionHandle,
    *,
    num_lanes: int,
    token: str | None,
    clock: Clock,
    progress_timeout_s: float,
    first_contact_timeout_s: float,
) -> list[Wire]:
    """Return `num_lanes` connections over which the peer serves the slab of `handle`.

    Raises:
        TransferError: nobody answers (unreachable), it says nothing (first_contact_timeout) or
            something strange (protocol), or refuses the token (unauthorized).
    """
    if not 0 <= handle.base <= frames.MAX_NUMBER or handle.size_bytes > frames.MAX_NUMBER:
        raise _error(handle.session, f"no slab has the id {handle.base}", TransferFault.UNREACHABLE)
    end_s = clock.now_s() + first_contact_timeout_s
    hello = frames.encode_hello(
        frames.Hello(
            token_digest=frames.token_digest(token),
            slab_id=handle.base,
            size_bytes=handle.size_bytes,
        )
    )
    wires: list[Wire] = []
    try:
        family, address = _resolve(handle.session, end_s - clock.now_s())
        for _ in range(num_lanes):
            connected = _connect(handle.session, family, address, end_s - clock.now_s())
            wires.append(Wire(connected, clock, progress_timeout_s))
            _greet(wires[-1], handle.session, hello, lambda: end_s - clock.now_s())
    except BaseException:
        for wire in wires:
            wire.abort()
        raise
    return wires


def _resolve(session: str, within_s: float) -> tuple[socket.AddressFamily, _Address]:
    host, _, port = session.rpartition(":")
    found: list[tuple[socket.AddressFamily, _Address]] = []

    def look_up() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            answers = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
            found.extend((answer[0], answer[4]) for answer in answers)

    # The resolver has time limits of its own, which are longer than ours.
    thread = threading.Thread(target=look_up, name="hfx-resolve", daemon=True)
    thread.start()
    thread.join(max(0.0, within_s))
    if not found:
        raise _error(session, "no such address", TransferFault.UNREACHABLE)
    return found[0]


def _connect(
    session: str, family: socket.AddressFamily, address: _Address, within_s: float
) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.settimeout(max(within_s, 0.001))
        connected.connect(address)
    except OSError as error:
        connected.close()
        raise _error(session, str(error), TransferFault.UNREACHABLE) from error
    return connected


def _greet(wire: Wire, session: str, hello: bytes, left_s: Callable[[], float]) -> None:
    try:
        wire.send(hello)
        welcome = wire.receive(frames.MAGIC_BYTES, within_s=left_s())
        frames.check_magic(welcome)  # What speaks something else may say less than a whole frame.
        welcome += wire.receive(frames.WELCOME_BYTES - frames.MAGIC_BYTES, within_s=left_s())
        status = frames.decode_welcome(welcome)
    except StalledError as error:
        message = "it accepted the connection and says nothing"
        raise _error(session, message, TransferFault.FIRST_CONTACT_TIMEOUT) from error
    except EndedError as error:
        raise _error(session, str(error), TransferFault.UNREACHABLE) from error
    except frames.FrameError as error:
        raise _error(session, str(error), TransferFault.PROTOCOL) from error
    if status is not frames.Status.OK:
        fault, reason = _REFUSALS.get(status, (TransferFault.PROTOCOL, f"it answers {status.name}"))
        raise _error(session, reason, fault)


def _error(session: str, reason: str, fault: TransferFault) -> TransferError:
    return TransferError(f"cannot reach {session}: {reason}", fault=fault)
