"""The serving side: one thread accepts, one more for each connection."""

import contextlib
import hmac
import socket
import threading

from hfx_sgl.clock import Clock
from hfx_transfer.engine.protocol import Operation
from hfx_transfer.engine.registry import Registry
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.flow import discard, receive_to, send_from
from hfx_transfer.engine.socket.wire import EndedError, StalledError, Wire
from hfx_transfer.memory.slab import Slab

_MAX_CONNECTIONS = 256
"""A thread each. Further ones are closed at once: their clients find the peer unreachable."""

_BACKLOG = 128
_JOIN_TIMEOUT_S = 5.0
_ACCEPT_RETRY_S = 0.1


class Server:
    """Serves the slabs of a registry until it is closed.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, registry: Registry, settings: EngineSettings, clock: Clock) -> None:
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._token_digest = frames.token_digest(settings.token)
        self._lock = threading.Lock()
        self._wires: dict[Wire, threading.Thread] = {}
        self._closing = threading.Event()
        self._listener = _listen(settings.listen_host, settings.port or 0)
        self._acceptor = threading.Thread(target=self._accept, name="hfx-socket", daemon=True)
        self._acceptor.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        """End all connections, and return when no thread touches a slab any more."""
        self._closing.set()
        # Wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(_JOIN_TIMEOUT_S)
        self._listener.close()
        with self._lock:
            wires = dict(self._wires)
        for wire in wires:
            wire.shut()
        for thread in wires.values():
            thread.join(_JOIN_TIMEOUT_S)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                self._admit(self._listener.accept()[0])
            except (OSError, RuntimeError):
                # The client was gone already, or no descriptor or thread is left for it.
                self._closing.wait(_ACCEPT_RETRY_S)

    def _admit(self, connected: socket.socket) -> None:
        try:
            wire = Wire(connected, self._clock, self._settings.progress_timeout_s)
            thread = threading.Thread(target=self._serve, args=(wire,), daemon=True)
            # Under the lock, for the thread takes itself off the list when it ends.
            with self._lock:
                if len(self._wires) >= _MAX_CONNECTIONS or self._closing.is_set():
                    connected.close()
                    return
                thread.start()
                self._wires[wire] = thread
        except BaseException:
            connected.close()
            raise

    def _serve(self, wire: Wire) -> None:
        try:
            slab_id = self._greet(wire)
            while slab_id is not None:
                wire.wait_for_bytes()
                frame = wire.receive(frames.REQUEST_BYTES)
                self._carry_out(wire, slab_id, frames.decode_request(frame))
        except (EndedError, StalledError, frames.FrameError):
            # Somebody who is gone, too slow, or speaks another protocol.
            wire.abort()
        finally:
            wire.close()
            with self._lock:
                del self._wires[wire]

    def _greet(self, wire: Wire) -> int | None:
        """Return the id of the slab that an authorised client has come for; None for others."""
        frame = wire.receive(frames.HELLO_BYTES, within_s=self._settings.first_contact_timeout_s)
        hello = frames.decode_hello(frame)
        if not hmac.compare_digest(hello.token_digest, self._token_digest):
            status = frames.Status.UNAUTHORIZED
        elif self._registry.size_of(hello.slab_id) != hello.size_bytes:
            status = frames.Status.UNKNOWN_SLAB
        else:
            status = frames.Status.OK
        wire.send(frames.encode_welcome(status))
        return hello.slab_id if status is frames.Status.OK else None

    def _carry_out(self, wire: Wire, slab_id: int, request: frames.Request) -> None:
        offered = self._registry.pinned(slab_id)
        if offered is None:
            _refuse(wire, request, frames.Status.UNKNOWN_SLAB)
            return
        slab = offered.slab
        try:
            if request.operation is Operation.WRITE and not offered.is_writable:
                _refuse(wire, request, frames.Status.READ_ONLY)
            elif request.offset + request.size_bytes > slab.size_bytes:
                _refuse(wire, request, frames.Status.OUT_OF_BOUNDS)
            else:
                _move(wire, slab, request)
        finally:
            slab.unpin()


def _move(wire: Wire, slab: Slab, request: frames.Request) -> None:
    reply = frames.encode_reply(frames.Status.OK, request.size_bytes)
    if request.operation is Operation.READ:
        wire.send(reply)
        send_from(wire, slab, request.offset, request.size_bytes)
    else:
        receive_to(wire, slab, request.offset, request.size_bytes)
        wire.send(reply)


def _refuse(wire: Wire, request: frames.Request, status: frames.Status) -> None:
    if request.operation is Operation.WRITE:
        discard(wire, request.size_bytes)
    wire.send(frames.encode_reply(status, request.size_bytes))


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
