"""Threads that carry out transfers which are nothing but copying, so that polling is enough."""

import queue
import threading
from collections.abc import Callable

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.tickets import LocalTicket

_Job = tuple[LocalTicket, Callable[[], None]]


class CopyWorkers:
    """A few threads and the transfers that wait for them."""

    def __init__(self, num_threads: int) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_threads = num_threads
        self._closed = False
        for _ in range(num_threads):
            threading.Thread(target=self._run, name="hfx-copy", daemon=True).start()

    def submit(self, ticket: LocalTicket, copy: Callable[[], None]) -> None:
        """Run `copy`, and make the ticket final then: failed, if it raises TransferError.

        A ticket that comes after `close` fails as aborted.
        """
        with self._lock:
            if not self._closed:
                self._jobs.put((ticket, copy))
                return
        ticket.fail(TransferFault.ABORTED)

    def close(self) -> None:
        """Let the threads end after what was submitted; does not wait for them."""
        with self._lock:
            self._closed = True
        for _ in range(self._num_threads):
            self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            ticket, copy = job
            # What stands when a device's driver raises something of its own.
            fault: TransferFault | None = TransferFault.PEER_FAILED
            try:
                copy()
                fault = None
            except TransferError as error:
                fault = error.fault
            finally:
                if fault is None:
                    ticket.finish()
                else:
                    ticket.fail(fault)
            # Keeps neither slab nor mapping alive while it waits for the next one.
            del job, ticket, copy
