"""The asking side: a few connections, each with a thread that carries out transfers.

The thread that moves a transfer's bytes is the only one to declare it final, after it has left
the kernel and, on a failure, closed its socket: no byte can arrive later. The first connection
that fails takes the others with it, so that a hung peer costs one progress timeout and no more.
"""

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Operation, Ticket
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.flow import receive_to, send_from
from hfx_transfer.engine.socket.wire import EndedError, StalledError, Wire
from hfx_transfer.engine.tickets import LocalTicket, check_span
from hfx_transfer.memory.slab import Slab

_REFUSALS = {frames.Status.READ_ONLY: TransferFault.INCOMPATIBLE}
"""What no other try would get either; of the rest, another slab or engine may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    ticket: LocalTicket
    local: Slab
    local_offset: int
    request: frames.Request


class SocketPeer:
    """One slab of a peer that was reached.

    Args:
        wires: connections that were greeted; the peer closes them.
        remote_size_bytes: the slab's length.
    """

    def __init__(self, wires: Sequence[Wire], remote_size_bytes: int) -> None:
        self._remote_size_bytes = remote_size_bytes
        self._wires = tuple(wires)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._refusal: TransferFault | None = None
        self._failure: TransferFault | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(wire,), name="hfx-lane", daemon=True)
            for wire in wires
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> Ticket:
        """Begin one transfer on the first connection that is free. See `Peer.submit`."""
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._remote_size_bytes,
        )
        ticket = LocalTicket(local)
        request = frames.Request(operation=operation, offset=remote_offset, size_bytes=size_bytes)
        job = _Job(ticket=ticket, local=local, local_offset=local_offset, request=request)
        with self._lock:
            refusal = self._failure or self._refusal
            if refusal is None:
                self._jobs.put(job)
        if refusal is not None:
            ticket.fail(refusal)
        return ticket

    def close(self) -> None:
        """Let go of the peer once the transfers under way have ended; does not wait for that."""
        with self._lock:
            self._refusal = TransferFault.ABORTED
        self._let_threads_end()

    def _run(self, wire: Wire) -> None:
        while (job := self._jobs.get()) is not None:
            status = self._carry_out(wire, job)
            if status is None:
                return
            if status is frames.Status.OK:
                job.ticket.finish()
            else:
                job.ticket.fail(_REFUSALS.get(status, TransferFault.PEER_FAILED))
        wire.close()

    def _carry_out(self, wire: Wire, job: _Job) -> frames.Status | None:
        """Move one transfer's bytes; return the peer's answer, None when the connection failed."""
        failure = TransferFault.PEER_FAILED
        status = None
        try:
            status = _move(wire, job)
        except StalledError:
            failure = TransferFault.STALLED
        except frames.FrameError:
            failure = TransferFault.PROTOCOL
        except EndedError:
            pass
        finally:
            # Also when a device's driver raised: no ticket stays running for ever.
            if status is None:
                wire.abort()
                job.ticket.fail(self._give_up(failure))
        return status

    def _give_up(self, failure: TransferFault) -> TransferFault:
        """End all connections and fail what waits for one; return why the first one failed."""
        with self._lock:
            self._failure = failure = self._failure or failure
        for wire in self._wires:
            wire.shut()
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.ticket.fail(failure)
        self._let_threads_end()
        return failure

    def _let_threads_end(self) -> None:
        for _ in self._threads:
            self._jobs.put(None)


def _move(wire: Wire, job: _Job) -> frames.Status:
    request = job.request
    wire.send(frames.encode_request(request))
    if request.operation is Operation.WRITE:
        send_from(wire, job.local, job.local_offset, request.size_bytes)
    status = frames.decode_reply(wire.receive(frames.REPLY_BYTES), request.size_bytes)
    if request.operation is Operation.READ and status is frames.Status.OK:
        receive_to(wire, job.local, job.local_offset, request.size_bytes)
    return status
