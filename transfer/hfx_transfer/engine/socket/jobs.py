"""The transfers that wait for one of a peer's connections."""

import threading
from collections import deque
from dataclasses import dataclass

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Operation
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.tickets import LocalTicket
from hfx_transfer.memory.slab import Slab


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One transfer, not begun."""

    ticket: LocalTicket
    local: Slab
    local_offset: int
    request: frames.Request


class JobQueue:
    """First come, first served. Of the connections' threads, each takes for itself.

    Args:
        num_lanes: connections; all are free until they take.
    """

    def __init__(self, num_lanes: int) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._num_free = num_lanes
        self._end: TransferFault | None = None

    def put(self, job: Job) -> TransferFault | None:
        """Add a job; return why it is not taken, None when it is."""
        with self._changed:
            if self._end is None:
                self._jobs.append(job)
                self._changed.notify()
            return self._end

    def take(self) -> Job | None:
        """Wait for a job, after which the connection is not free; None when there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._end is not None)
            if not self._jobs:
                return None
            self._num_free -= 1
            return self._jobs.popleft()

    def rest(self) -> None:
        """Say that a connection is free, and that it will `take`."""
        with self._changed:
            self._num_free += 1

    def take_ahead(self) -> Job | None:
        """Return a read that no other connection is free for; None when there is none.

        Not a write: its bytes would wait for a peer that itself waits to send.
        """
        with self._changed:
            if self._num_free or not self._jobs:
                return None
            if self._jobs[0].request.operation is Operation.WRITE:
                return None
            return self._jobs.popleft()

    def close(self) -> None:
        """Take no more; what is there is carried out."""
        with self._changed:
            self._end = self._end or TransferFault.ABORTED
            self._changed.notify_all()

    def fail(self, fault: TransferFault) -> tuple[TransferFault, list[Job]]:
        """Take no more; return why the first of all failures happened, and what was there."""
        with self._changed:
            self._end = fault if self._end in (None, TransferFault.ABORTED) else self._end
            left = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
            return self._end, left
