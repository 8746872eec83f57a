"""The only owner of one of the library's transfer ids."""

import threading
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.mooncake.native_library import NativeEngine
from hfx_transfer.engine.protocol import TicketState
from hfx_transfer.memory.slab import Slab


class MooncakeTicket:
    """One transfer of one entry.

    An id of several entries counts as done when its first one is. An id is freed by the very call
    that reports its end; asking once more reads freed memory, and asking for id 0 is a crash.
    Hence the lock, and an id that is forgotten as soon as it is final.
    """

    __slots__ = (
        "_began_at_s",
        "_clock",
        "_fault",
        "_id",
        "_lock",
        "_native",
        "_on_final",
        "_progress_timeout_s",
        "_slab",
        "_state",
    )

    def __init__(
        self,
        native: NativeEngine,
        transfer_id: int,
        slab: Slab,
        *,
        clock: Clock,
        progress_timeout_s: float,
        on_final: Callable[[TicketState], None],
    ) -> None:
        """Take over `transfer_id`, which is not 0, and a slab that was pinned for it."""
        self._native = native
        self._id: int | None = transfer_id
        self._slab = slab
        self._clock = clock
        self._progress_timeout_s = progress_timeout_s
        self._on_final = on_final
        self._began_at_s = clock.now_s()
        self._lock = threading.Lock()
        self._state = TicketState.RUNNING
        self._fault: TransferFault | None = None

    @property
    def fault(self) -> TransferFault | None:
        """Why it failed; None unless it did.

        The library does not say. A failure after the progress timeout counts as stalled, an
        earlier one as the peer's.
        """
        return self._fault

    @property
    def digest(self) -> None:
        """None: the library does not show the bytes on their way."""
        return None

    def poll(self) -> TicketState:
        """Return where it stands, without waiting."""
        with self._lock:
            if self._id is None:
                return self._state
            status = self._native.transfer_check_status(self._id)
            if status == 0:
                return TicketState.RUNNING
            self._id = None
            if status != 1:
                self._fault = self._guess_fault()
            self._state = TicketState.DONE if status == 1 else TicketState.FAILED
        self._slab.unpin()
        self._on_final(self._state)
        return self._state

    def _guess_fault(self) -> TransferFault:
        lasted_s = self._clock.now_s() - self._began_at_s
        is_late = lasted_s >= self._progress_timeout_s
        return TransferFault.STALLED if is_late else TransferFault.PEER_FAILED


class RefusedTicket:
    """A transfer that never began."""

    __slots__ = ("digest", "fault")

    def __init__(self, fault: TransferFault) -> None:
        self.fault: TransferFault | None = fault
        self.digest: str | None = None

    def poll(self) -> TicketState:
        """Return that it failed."""
        return TicketState.FAILED
