"""One peer: a link in good order, and the tickets that run over it."""

import threading
from collections.abc import Callable

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake.link import Link
from hfx_transfer.engine.mooncake.ticket import MooncakeTicket, RefusedTicket
from hfx_transfer.engine.protocol import Operation, RegionHandle, TicketState
from hfx_transfer.engine.tickets import check_span
from hfx_transfer.memory.devices import device_kind
from hfx_transfer.memory.slab import Slab


class MooncakePeer:
    """A slab of another engine, reached over a link of its own.

    Args:
        handle: the slab.
        link: after its first contact with the handle's session.
        device_kinds: whose memory this build moves.
        clock: for telling kinds of failures apart.
        progress_timeout_s: the engine's.
        release: called once, with whether all went well, when the link is not needed any more.
    """

    def __init__(
        self,
        handle: RegionHandle,
        link: Link,
        *,
        device_kinds: set[str],
        clock: Clock,
        progress_timeout_s: float,
        release: Callable[[Link, bool], None],
    ) -> None:
        self._handle = handle
        self._link = link
        self._device_kinds = device_kinds
        self._clock = clock
        self._progress_timeout_s = progress_timeout_s
        self._release = release
        self._lock = threading.Lock()
        self._num_running = 0
        self._is_healthy = True
        self._is_closed = False

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> MooncakeTicket | RefusedTicket:
        """Begin one transfer; a refusal is a ticket that has failed already.

        A final ticket says that nothing touches the local slab any more. It says less about the
        peer's: of a write that failed, bytes that its kernel had accepted still land there when
        a peer that was stopped goes on. Only the peer can know when that is over.

        Raises:
            ValueError: no such span, a device that this build of Mooncake does not know, or the
                peer was closed.
        """
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._handle.size_bytes,
        )
        if device_kind(local.device) not in self._device_kinds:
            raise ValueError(f"this build of Mooncake does not move memory of {local.device}")
        if operation is Operation.WRITE and not self._handle.is_writable:
            return RefusedTicket(TransferFault.INCOMPATIBLE)
        self._begin()
        try:
            self._link.prepare(local)
        except TransferError as error:
            self._end(TicketState.DONE)
            return RefusedTicket(error.fault)
        local.pin()
        native = self._link.native
        act = {
            Operation.READ: native.batch_transfer_async_read,
            Operation.WRITE: native.batch_transfer_async_write,
        }[operation]
        # One entry for each id: an id of more counts as done when its first entry is.
        transfer_id = act(
            self._handle.session,
            [local.address + local_offset],
            [self._handle.base + remote_offset],
            [size_bytes],
        )
        if transfer_id == 0:
            local.unpin()
            self._end(TicketState.FAILED)
            return RefusedTicket(TransferFault.PEER_FAILED)
        return MooncakeTicket(
            native,
            transfer_id,
            local,
            clock=self._clock,
            progress_timeout_s=self._progress_timeout_s,
            on_final=self._end,
        )

    def wait(self, pause_s: float) -> None:
        """Wait for `pause_s`: the library tells nobody that a transfer has ended."""
        threading.Event().wait(pause_s)

    def close(self) -> None:
        """Let go of the peer; its link is free when the last ticket was seen final."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_over = self._num_running == 0
        if is_over:
            self._let_go()

    def _begin(self) -> None:
        with self._lock:
            if self._is_closed:
                raise ValueError("the peer was closed")
            self._num_running += 1

    def _end(self, state: TicketState) -> None:
        with self._lock:
            self._num_running -= 1
            self._is_healthy &= state is TicketState.DONE
            is_over = self._is_closed and self._num_running == 0
        if is_over:
            self._let_go()

    def _let_go(self) -> None:
        self._link.forget_slabs()
        self._release(self._link, self._is_healthy)
