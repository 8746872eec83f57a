"""The side process: carries out for one client what it asks of a backend.

One thread reads commands, begins transfers and watches them; what may take long has a thread for
each call. It ends with its client, whatever ends that one.
"""

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError, TransferError, TransferFault
from hfx_transfer.engine.protocol import Peer, RegionHandle, Ticket, TicketState, TransferEngine
from hfx_transfer.engine.side import messages
from hfx_transfer.engine.side.attachments import Attachments
from hfx_transfer.engine.side.messages import Command, Wire

_FIRST_PAUSE_S = 0.0003
_LONGEST_PAUSE_S = 0.002
_IDLE_PAUSE_S = 1.0
_PR_SET_PDEATHSIG = 1


class HostedEngine(TransferEngine, Protocol):
    """A backend that can also look for signs of life."""

    def probe(self, session: str, *, timeout_s: float) -> float | None:
        """Return how long one took, None when there was none."""
        ...


class Host:
    """Serves one client.

    Args:
        wire: the connection to it.
        engine: the backend.
        clock: for what has been idle.
    """

    def __init__(self, wire: Wire, engine: HostedEngine, clock: Clock) -> None:
        self._wire = wire
        self._engine = engine
        self._attachments = Attachments(clock)
        self._peers: dict[int, Peer] = {}
        self._tickets: dict[int, Ticket] = {}

    def run(self) -> None:
        """Serve until the client is gone.

        Raises:
            EOFError: it is.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            command = self._wire.receive(pause_s if self._tickets else _IDLE_PAUSE_S)
            if command is not None:
                self._obey(command)
            has_news = self._report_final()
            is_busy = has_news or command is not None
            pause_s = _FIRST_PAUSE_S if is_busy else min(pause_s * 1.5, _LONGEST_PAUSE_S)
            self._attachments.close_idle()

    def _obey(self, command: Command) -> None:
        match command:
            case messages.Submit():
                self._submit(command)
            case messages.Ping():
                self._wire.send(messages.Pong())
            case messages.ClosePeer():
                peer = self._peers.pop(command.peer, None)
                if peer is not None:
                    peer.close()
            case messages.Register() | messages.Unregister() | messages.Connect():
                self._in_background(command.call, lambda: self._act(command))
            case messages.Probe():
                self._in_background(command.call, lambda: self._probe(command))

    def _act(
        self, command: messages.Register | messages.Unregister | messages.Connect
    ) -> messages.Answer:
        match command:
            case messages.Register():
                return messages.Answer(call=command.call, handles=self._register(command))
            case messages.Unregister():
                slabs = [self._attachments.get(name) for name in command.slabs]
                self._engine.unregister(slabs)
                self._attachments.release(command.slabs)
            case messages.Connect():
                self._peers[command.peer] = self._engine.connect(
                    command.handle, first_contact_timeout_s=command.first_contact_timeout_s
                )
        return messages.Answer(call=command.call)

    def _register(self, command: messages.Register) -> list[RegionHandle]:
        names = command.slabs
        slabs = [self._attachments.get(name) for name in names]
        # Before, as it may take longer than what is idle stays mapped.
        self._attachments.keep(names)
        try:
            return self._engine.register(slabs, writable=command.writable)
        except TransferError:
            self._attachments.release(names)
            raise

    def _probe(self, command: messages.Probe) -> messages.Answer:
        latency_s = self._engine.probe(command.session, timeout_s=command.timeout_s)
        return messages.Answer(call=command.call, latency_s=latency_s)

    def _in_background(self, call: int, act: Callable[[], messages.Answer]) -> None:
        def run() -> None:
            answer: messages.Answer | messages.Failure
            try:
                answer = act()
            except TransferError as error:
                answer = messages.Failure(call=call, message=str(error), fault=error.fault)
            except ValueError as error:
                fault = TransferFault.INCOMPATIBLE
                answer = messages.Failure(call=call, message=str(error), fault=fault)
            with contextlib.suppress(OSError):
                self._wire.send(answer)

        threading.Thread(target=run, daemon=True).start()

    def _submit(self, command: messages.Submit) -> None:
        peer = self._peers.get(command.peer)
        try:
            if peer is None:
                raise ValueError("no such peer")
            self._tickets[command.ticket] = peer.submit(
                command.operation,
                self._attachments.get(command.slab),
                local_offset=command.local_offset,
                remote_offset=command.remote_offset,
                size_bytes=command.size_bytes,
            )
        except TransferError as error:
            self._wire.send(messages.Final(ticket=command.ticket, fault=error.fault))
        except ValueError:
            fault = TransferFault.INCOMPATIBLE
            self._wire.send(messages.Final(ticket=command.ticket, fault=fault))

    def _report_final(self) -> bool:
        over = [
            (number, ticket)
            for number, ticket in self._tickets.items()
            if ticket.poll() is not TicketState.RUNNING
        ]
        for number, ticket in over:
            del self._tickets[number]
            self._wire.send(messages.Final(ticket=number, fault=ticket.fault))
        return bool(over)


def serve(end: socket.socket, parent_pid: int) -> int:
    """Be the side process of `parent_pid`; return the exit status when that is over."""
    _end_with_parent(parent_pid)
    # Ctrl-C reaches the whole group, and the client decides when this is over.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    wire = Wire(end, Command | messages.Start)
    try:
        start = wire.receive(None)
        engine = _make(start)
        wire.send(messages.Started(backend=engine.backend, transport=engine.transport))
        Host(wire, engine, WallClock()).run()
    except TransferError as error:
        wire.send(messages.NotStarted(message=str(error), fault=error.fault))
        return 1
    except ConfigError as error:
        wire.send(messages.NotStarted(message=str(error), fault=None))
        return 1
    except (EOFError, BrokenPipeError, ConnectionError):
        return 0
    return 0


def _make(start: messages.Start) -> HostedEngine:
    module, _, name = start.factory.partition(":")
    factory: Any = getattr(importlib.import_module(module), name)
    engine: HostedEngine = factory(start.settings)
    return engine


def _end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the thread that started it ends.

    The end of the connection says the same, but is not heard while a native call holds the
    interpreter.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)
