"""The asking side: a few connections, each with a thread that carries out transfers.

The thread that moves a transfer's bytes is the only one to declare it final, after it has left
the kernel and, on a failure, closed its socket: no byte can arrive later. The first connection
that fails takes the others with it, so that a hung peer costs one progress timeout and no more.

While the bytes of one read arrive the next is asked for already: between the two the connection
never waits for a question to cross the network.
"""

import threading
from collections import deque
from collections.abc import Sequence

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Operation, Ticket
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.flow import receive_digested, send_from
from hfx_transfer.engine.socket.jobs import Job, JobQueue
from hfx_transfer.engine.socket.wire import EndedError, StalledError, Wire
from hfx_transfer.engine.tickets import LocalTicket, News, check_span
from hfx_transfer.memory.slab import Slab

_REFUSALS = {frames.Status.READ_ONLY: TransferFault.INCOMPATIBLE}
"""What no other try would get either; of the rest, another slab or engine may do."""


class SocketPeer:
    """One slab of a peer that was reached.

    Args:
        wires: connections that were greeted; the peer closes them.
        remote_size_bytes: the slab's length.
    """

    def __init__(self, wires: Sequence[Wire], remote_size_bytes: int) -> None:
        self._news = News()
        self._remote_size_bytes = remote_size_bytes
        self._wires = tuple(wires)
        self._jobs = JobQueue(len(wires))
        for wire in wires:
            threading.Thread(target=self._run, args=(wire,), name="hfx-lane", daemon=True).start()

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
        ticket = LocalTicket(local, self._news)
        request = frames.Request(operation=operation, offset=remote_offset, size_bytes=size_bytes)
        job = Job(ticket=ticket, local=local, local_offset=local_offset, request=request)
        refusal = self._jobs.put(job)
        if refusal is not None:
            ticket.fail(refusal)
        return ticket

    def wait(self, pause_s: float) -> None:
        """Wait for an end rather than for `pause_s`. See `Peer.wait`."""
        self._news.wait()

    def close(self) -> None:
        """Let go of the peer once the transfers under way have ended; does not wait for that."""
        self._jobs.close()

    def _run(self, wire: Wire) -> None:
        asked: deque[Job] = deque()
        """Those whose question was sent, in the order in which the answers come."""
        failure = TransferFault.PEER_FAILED
        is_over = False
        try:
            while (job := self._next(wire, asked)) is not None:
                status, digest = _answer(wire, job)
                asked.popleft()
                if not asked:
                    self._jobs.rest()
                if status is frames.Status.OK:
                    job.ticket.finish(digest)
                else:
                    job.ticket.fail(_REFUSALS.get(status, TransferFault.PEER_FAILED))
            is_over = True
        except StalledError:
            failure = TransferFault.STALLED
        except frames.FrameError:
            failure = TransferFault.PROTOCOL
        except EndedError:
            pass
        finally:
            # Also when a device's driver raised: no ticket stays running for ever.
            if is_over:
                wire.close()
            else:
                wire.abort()
                self._give_up(failure, asked)

    def _next(self, wire: Wire, asked: deque[Job]) -> Job | None:
        """Return what is answered next, when it and the one behind it are asked for."""
        if not asked and (job := self._jobs.take()) is not None:
            asked.append(job)
            _ask(wire, job)
        is_read = bool(asked) and asked[0].request.operation is Operation.READ
        if is_read and len(asked) == 1 and (ahead := self._jobs.take_ahead()) is not None:
            asked.append(ahead)
            _ask(wire, ahead)
        return asked[0] if asked else None

    def _give_up(self, failure: TransferFault, asked: Sequence[Job]) -> None:
        """End all connections; fail what waits for one, and what this one was asked for."""
        failure, left = self._jobs.fail(failure)
        for wire in self._wires:
            wire.shut()
        for job in (*asked, *left):
            job.ticket.fail(failure)


def _ask(wire: Wire, job: Job) -> None:
    wire.send(frames.encode_request(job.request))
    if job.request.operation is Operation.WRITE:
        send_from(wire, job.local, job.local_offset, job.request.size_bytes)


def _answer(wire: Wire, job: Job) -> tuple[frames.Status, str | None]:
    """Return what the peer says; if that is OK, a read's bytes are in place and digested."""
    request = job.request
    status = frames.decode_reply(wire.receive(frames.REPLY_BYTES), request.size_bytes)
    if request.operation is Operation.WRITE or status is not frames.Status.OK:
        return status, None
    return status, receive_digested(wire, job.local, job.local_offset, request.size_bytes)
