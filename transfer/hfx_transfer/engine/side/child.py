"""One life of the side process, as its client sees it.

A thread of its own starts the process, reads what it says and outlives it: only when the process
is gone for good do its transfers count as over.
"""

import itertools
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from hfx_sgl.clock import Clock
from hfx_sgl.errors import ConfigError, TransferError, TransferFault
from hfx_transfer.engine.side import messages
from hfx_transfer.engine.side.messages import Report, Wire
from hfx_transfer.engine.tickets import LocalTicket

_PING_EVERY_S = 1.0


@dataclass(slots=True)
class _Call:
    """Somebody waits for its answer."""

    done: threading.Event = field(default_factory=threading.Event)
    answer: messages.Answer | messages.Failure | None = None


class Child:
    """One process, and everything that waits for it.

    Args:
        start: what it is told first.
        silence_s: how long it may not react; it is killed then.
        clock: for that.
    """

    def __init__(self, start: messages.Start, *, silence_s: float, clock: Clock) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._tickets: dict[int, LocalTicket] = {}
        self._hello: messages.Started | messages.NotStarted | None = None
        self._has_spoken = threading.Event()
        self._is_lost = False
        self._lost_at_s = math.inf
        self._gone = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wire = Wire(ours, Report)
        # The kernel kills the process when the thread that started it ends, so that is this one.
        self._thread = threading.Thread(
            target=self._supervise, args=(start, theirs), name="transfer side process", daemon=True
        )
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be asked of it any more, dead or about to be."""
        return self._is_lost

    @property
    def lost_at_s(self) -> float:
        """Since when; infinite while it is not."""
        return self._lost_at_s

    @property
    def pid(self) -> int | None:
        """Its process id; None before it has one."""
        return None if self._process is None else self._process.pid

    def wait_until_started(self, timeout_s: float) -> messages.Started:
        """Return what it says about its backend.

        Raises:
            TransferError: it cannot offer it, or says nothing in time (unavailable).
            ConfigError: it does not accept the settings.
        """
        if not self._has_spoken.wait(timeout_s):
            self.end()
            raise _unavailable(f"the side process was not ready within {timeout_s:g} s")
        match self._hello:
            case messages.Started():
                return self._hello
            case messages.NotStarted(message=message, fault=None):
                raise ConfigError(message)
            case messages.NotStarted(message=message, fault=fault) if fault is not None:
                raise TransferError(message, fault=fault)
            case _:
                raise _unavailable("the side process ended before it was ready")

    def next_number(self) -> int:
        """Return a number for a call, a peer or a ticket that this process has not seen."""
        return next(self._numbers)

    def call(self, command: Any, timeout_s: float) -> messages.Answer:
        """Have it do something that takes a while, and wait for that.

        Raises:
            TransferError: what it raised; or it is gone (peer_failed) or silent (stalled).
        """
        call = _Call()
        with self._lock:
            if self._is_lost:
                raise self._gone_error()
            self._calls[command.call] = call
        try:
            self._wire.send_at_once(command)
            call.done.wait(timeout_s)
        except OSError as error:
            message = f"the side process takes no command ({error})"
            raise TransferError(message, fault=TransferFault.STALLED) from error
        finally:
            with self._lock:
                self._calls.pop(command.call, None)
        match call.answer:
            case messages.Answer():
                return call.answer
            case messages.Failure(message=message, fault=fault):
                raise TransferError(message, fault=fault)
        if self._is_lost:
            raise self._gone_error()
        message = f"the side process has not answered within {timeout_s:g} s"
        raise TransferError(message, fault=TransferFault.STALLED)

    def submit(self, command: messages.Submit, ticket: LocalTicket) -> None:
        """Have it begin a transfer; the ticket becomes final by itself."""
        with self._lock:
            is_lost = self._is_lost
            if not is_lost:
                self._tickets[command.ticket] = ticket
        if is_lost:
            ticket.fail(TransferFault.PEER_FAILED)
            return
        try:
            self._wire.send_at_once(command)
        except OSError as error:
            # It was not told, so nothing of this transfer happens there.
            with self._lock:
                was_ours = self._tickets.pop(command.ticket, None) is not None
            if was_ours:
                is_full = isinstance(error, BlockingIOError)
                ticket.fail(TransferFault.STALLED if is_full else TransferFault.PEER_FAILED)

    def tell(self, command: Any) -> None:
        """Say something that needs no answer; a process that is gone need not hear it."""
        try:
            self._wire.send_at_once(command)
        except OSError:
            return

    def end(self) -> None:
        """Make it end; what it has under way fails when it has."""
        self._lose()
        self._wire.shut()

    def wait_until_gone(self, timeout_s: float) -> bool:
        """Return whether the process is gone, after waiting for that."""
        return self._gone.wait(timeout_s)

    def _lose(self) -> None:
        with self._lock:
            if not self._is_lost:
                self._is_lost = True
                self._lost_at_s = self._clock.now_s()

    def _gone_error(self) -> TransferError:
        # Its status is known once it is gone, which may take a moment longer.
        status = self._process.returncode if self._process is not None else None
        by = (
            f" (ended by {signal.Signals(-status).name})"
            if status is not None and status < 0
            else ""
        )
        message = f"the side process is gone{by}"
        return TransferError(message, fault=TransferFault.PEER_FAILED)

    def _supervise(self, start: messages.Start, theirs: socket.socket) -> None:
        argv = [sys.executable, "-m", "hfx_transfer.engine.side"]
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*argv, str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            self._wire.send(start)
            self._listen()
        except (EOFError, OSError):
            # It is gone, or could not be started at all: `_hello` says which.
            return
        finally:
            self._bury()

    def _listen(self) -> None:
        """Take in what it says until it is gone, hangs, or is to end.

        Raises:
            EOFError: it is gone.
            OSError: the same, noticed while sending.
        """
        heard_at_s = self._clock.now_s()
        while self._clock.now_s() - heard_at_s < self._silence_s:
            report = self._wire.receive(_PING_EVERY_S)
            if report is not None:
                heard_at_s = self._clock.now_s()
                self._take(report)
            elif self._has_spoken.is_set():
                self._wire.send_at_once(messages.Ping())
            else:
                # Still importing; whoever waits for it has a limit.
                heard_at_s = self._clock.now_s()

    def _take(self, report: Report) -> None:
        match report:
            case messages.Final():
                with self._lock:
                    ticket = self._tickets.pop(report.ticket, None)
                if ticket is None:
                    return
                if report.fault is None:
                    ticket.finish()
                else:
                    ticket.fail(report.fault)
            case messages.Answer() | messages.Failure():
                with self._lock:
                    call = self._calls.pop(report.call, None)
                if call is not None:
                    call.answer = report
                    call.done.set()
            case messages.Started() | messages.NotStarted():
                self._hello = report
                self._has_spoken.set()
            case messages.Pong():
                return

    def _bury(self) -> None:
        """Kill it, wait until it is gone, and only then let go of the memory it could write.

        A process can be waited for when all its threads have ended and the kernel has closed its
        descriptors: sockets, from which nothing is copied into its memory any more, and those by
        which adapters were allowed to write there. A process that the kernel cannot end keeps
        its transfers running, as nobody could tell when they are over.
        """
        self._lose()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        with self._lock:
            tickets, self._tickets = list(self._tickets.values()), {}
            calls = list(self._calls.values())
        for ticket in tickets:
            ticket.fail(TransferFault.PEER_FAILED)
        for call in calls:
            call.done.set()
        self._gone.set()
        self._has_spoken.set()
        self._wire.close()


def _unavailable(message: str) -> TransferError:
    return TransferError(message, fault=TransferFault.UNAVAILABLE)
