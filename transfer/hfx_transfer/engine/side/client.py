"""`SideEngine`: a backend that runs in a side process, for shared memory.

What a crash there costs: transfers under way fail, handles that were given out lead nowhere, and
the next call starts the process anew.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.side import messages
from hfx_transfer.engine.side.child import Child
from hfx_transfer.engine.tickets import LocalTicket, News, check_span
from hfx_transfer.memory.slab import Slab

MOONCAKE = "hfx_transfer.engine.mooncake.backend:MooncakeEngine"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLimits:
    """How long the side process may take, and when it is started again."""

    start_s: float = 30.0
    """From nothing to ready. Importing Mooncake takes 0.5 s on an idle machine; RDMA adapters and
    NPUs take seconds."""

    silence_s: float = 10.0
    """Without a sign of life it is killed after this long. Registration of memory with an adapter
    may hold its interpreter for a few seconds."""

    call_margin_s: float = 5.0
    """What a call may take beyond the limit that it was given."""

    register_s: float = 60.0
    """For registering slabs: adapters pin some 10 GB/s, hosts have up to hundreds of GB."""

    first_pause_s: float = 0.5
    """Between a crash and the next start; doubled with each crash."""

    longest_pause_s: float = 30.0
    """What that grows to."""

    forgiven_after_s: float = 60.0
    """A process that lived this long counts as a good one: the pause is short again."""


class SideEngine:
    """A backend behind a process boundary. Offers and uses only slabs with a `shared_name`.

    The first process is started at once, later ones by the first call that needs one. Calls wait
    for no longer than their limits; `poll` and `submit` do not wait at all.

    Args:
        settings: the backend's.
        factory: `module:callable`, imported there and called with the settings.
        limits: None for the defaults.
        clock: for pauses between starts.

    Raises:
        TransferError: the backend cannot run here (unavailable).
        ConfigError: it does not accept the settings.
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        factory: str = MOONCAKE,
        limits: SideLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._start = messages.Start(factory=factory, settings=settings)
        self._limits = SideLimits() if limits is None else limits
        self._clock = WallClock() if clock is None else clock
        self._lock = threading.Lock()
        self._num_starts = 0
        self._pause_s = self._limits.first_pause_s
        self._is_closed = False
        self._started_at_s = 0.0
        self._child = self._start_child()
        self._hello = self._child.wait_until_started(self._limits.start_s)

    @property
    def backend(self) -> Backend:
        """The hosted backend's."""
        return self._hello.backend

    @property
    def transport(self) -> str:
        """The hosted backend's, as it said when it started."""
        return self._hello.transport

    @property
    def num_starts(self) -> int:
        """How often the process was started. When this grows, slabs are to be registered anew."""
        return self._num_starts

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return None if self._child.is_lost else self._child.pid

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Let peers reach these slabs, each as a whole; all or none.

        Whether `writable` is more than a request is for the hosted backend to say.

        Raises:
            TransferError: a slab is not shared, overlaps another (both incompatible), or the
                process is gone.
        """
        names = [_name_of(slab) for slab in slabs]
        child = self._living()
        command = messages.Register(call=child.next_number(), slabs=names, writable=writable)
        return child.call(command, self._limits.register_s).handles

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Let no new transfer reach them; those under way may still end."""
        names = [_name_of(slab) for slab in slabs]
        child = self._child
        # With the process went what it had registered.
        if not child.is_lost:
            command = messages.Unregister(call=child.next_number(), slabs=names)
            child.call(command, self._limits.register_s)

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> "SidePeer":
        """Reach the peer that offers `handle`, within the limit.

        Raises:
            TransferError: as the backend's own `connect`; peer_failed when the process ended
                meanwhile, unavailable when it may not be started again yet.
        """
        child = self._living()
        peer = child.next_number()
        command = messages.Connect(
            call=child.next_number(),
            peer=peer,
            handle=handle,
            first_contact_timeout_s=first_contact_timeout_s,
        )
        child.call(command, first_contact_timeout_s + self._limits.call_margin_s)
        return SidePeer(child, peer, handle)

    def probe(self, session: str, *, timeout_s: float) -> float | None:
        """Return how many seconds a sign of life from `session` takes; None when none comes.

        Raises:
            TransferError: the process is gone, or may not be started again yet.
        """
        child = self._living()
        command = messages.Probe(call=child.next_number(), session=session, timeout_s=timeout_s)
        return child.call(command, timeout_s + self._limits.call_margin_s).latency_s

    def close(self) -> None:
        """End the process; whatever was still under way has failed when this returns."""
        with self._lock:
            self._is_closed = True
        self._child.end()
        self._child.wait_until_gone(self._limits.silence_s)

    def _living(self) -> Child:
        with self._lock:
            if self._is_closed:
                raise ValueError("the engine was closed")
            if not self._child.is_lost:
                return self._child
            self._check_pause()
            child = self._child = self._start_child()
        # Several callers may wait here, each with the whole limit.
        child.wait_until_started(self._limits.start_s)
        return child

    def _check_pause(self) -> None:
        """Raise unless the pause since the process was lost is over."""
        lost_at_s = self._child.lost_at_s
        if lost_at_s - self._started_at_s >= self._limits.forgiven_after_s:
            self._pause_s = self._limits.first_pause_s
        left_s = lost_at_s + self._pause_s - self._clock.now_s()
        if left_s > 0:
            raise TransferError(
                f"the side process has ended; it is started again in {left_s:.1f} s",
                fault=TransferFault.UNAVAILABLE,
            )
        self._pause_s = min(2 * self._pause_s, self._limits.longest_pause_s)

    def _start_child(self) -> Child:
        self._num_starts += 1
        self._started_at_s = self._clock.now_s()
        return Child(self._start, silence_s=self._limits.silence_s, clock=self._clock)


class SidePeer:
    """A peer that the side process has reached."""

    def __init__(self, child: Child, number: int, handle: RegionHandle) -> None:
        self._news = News()
        self._child = child
        self._number = number
        self._handle = handle

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> LocalTicket:
        """Begin one transfer; a refusal is a ticket that fails.

        Raises:
            ValueError: no such span, or the slab is not shared memory.
        """
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._handle.size_bytes,
        )
        if local.shared_name is None:
            raise ValueError("the side process reaches only shared memory")
        command = messages.Submit(
            ticket=self._child.next_number(),
            peer=self._number,
            operation=operation,
            slab=_name_of(local),
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
        )
        ticket = LocalTicket(local, self._news)
        self._child.submit(command, ticket)
        return ticket

    def wait(self, pause_s: float) -> None:
        """Wait for an end rather than for `pause_s`. See `Peer.wait`."""
        self._news.wait()

    def close(self) -> None:
        """Let go of the peer; transfers under way end on their own."""
        self._child.tell(messages.ClosePeer(peer=self._number))


def _name_of(slab: Slab) -> messages.SlabName:
    if slab.shared_name is None:
        raise TransferError(
            "the side process reaches only shared memory", fault=TransferFault.INCOMPATIBLE
        )
    return messages.SlabName(name=slab.shared_name, size_bytes=slab.size_bytes)
