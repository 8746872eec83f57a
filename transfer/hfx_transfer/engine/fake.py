"""An engine that moves bytes by assignment within one process, and fails when told to.

For tests of what is built upon engines. Nothing happens behind the caller's back: a transfer
advances only when its ticket is polled.
"""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, Ticket, TicketState
from hfx_transfer.engine.registry import Offered
from hfx_transfer.engine.tickets import LocalTicket, check_span, refused
from hfx_transfer.memory.slab import Slab


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """How one transfer goes. The default is a good one that needs a single poll."""

    polls: int = 1
    """Polls after which it is over; at least 1."""

    fault: TransferFault | None = None
    """Why it then fails; None for a success."""

    hangs: bool = False
    """Whether it stays running until `FakeNetwork.kill` ends it."""

    corrupts: bool = False
    """Whether its first byte arrives inverted, in a transfer that claims success."""


class FakeNetwork:
    """What connects fake engines, and the script of what goes wrong among them."""

    def __init__(self) -> None:
        self.num_submitted: Counter[str] = Counter()
        """By session: transfers that were submitted to it."""
        self.num_under_way = 0
        """Transfers that are running."""
        self.most_under_way = 0
        """The largest number that was running at one moment."""
        self._scripts: dict[str, deque[Scripted]] = {}
        self._offered: dict[tuple[str, int], Offered] = {}
        self._dead: set[str] = set()
        self._silent: set[str] = set()
        self._bases = itertools.count(1)

    def plan(self, session: str, *transfers: Scripted) -> None:
        """Say how the next transfers with a session go; those beyond the plan go well."""
        self._scripts.setdefault(session, deque()).extend(transfers)

    def kill(self, session: str) -> None:
        """End one engine as SIGKILL would: what is running with it fails when polled next."""
        self._dead.add(session)

    def silence(self, session: str) -> None:
        """Let one engine accept connections and say nothing; open ones are not concerned."""
        self._silent.add(session)

    def is_alive(self, session: str) -> bool:
        """Whether the session was not killed."""
        return session not in self._dead

    def offer(self, session: str, slab: Slab, *, writable: bool) -> int:
        """Make a slab known; return its base."""
        base = next(self._bases)
        self._offered[session, base] = Offered(slab, writable)
        return base

    def withdraw(self, session: str, base: int) -> None:
        """Forget a slab."""
        del self._offered[session, base]

    def reach(self, handle: RegionHandle) -> Offered:
        """Return the slab behind a handle, and whether it takes writes.

        Raises:
            TransferError: its engine is dead, silent, or does not offer it.
        """
        offered = self._offered.get((handle.session, handle.base))
        if not self.is_alive(handle.session) or offered is None:
            raise TransferError(f"no {handle} here", fault=TransferFault.UNREACHABLE)
        if handle.session in self._silent:
            message = f"{handle.session} says nothing"
            raise TransferError(message, fault=TransferFault.FIRST_CONTACT_TIMEOUT)
        return offered

    def begin(self, session: str) -> Scripted:
        """Count a transfer; return how it goes."""
        self.num_submitted[session] += 1
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        script = self._scripts.get(session)
        return script.popleft() if script else Scripted()


class FakeEngine:
    """One engine on a `FakeNetwork`.

    Args:
        network: whom it can reach.
        session: its name there.
        backend: what it pretends to be in handles.
    """

    def __init__(
        self, network: FakeNetwork, session: str, backend: Backend = Backend.SOCKET
    ) -> None:
        self._network = network
        self._session = session
        self._backend = backend
        self._bases: dict[Slab, int] = {}

    @property
    def backend(self) -> Backend:
        """What it pretends to be."""
        return self._backend

    @property
    def transport(self) -> str:
        """`fake`."""
        return "fake"

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Let peers on the network reach these slabs."""
        if any(slab in self._bases for slab in slabs):
            raise TransferError("registered already", fault=TransferFault.INCOMPATIBLE)
        handles = []
        for slab in slabs:
            self._bases[slab] = base = self._network.offer(self._session, slab, writable=writable)
            handles.append(
                RegionHandle(
                    backend=self._backend,
                    session=self._session,
                    base=base,
                    size_bytes=slab.size_bytes,
                    is_writable=writable,
                )
            )
        return handles

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Let nobody connect to them any more."""
        for slab in slabs:
            self._network.withdraw(self._session, self._bases.pop(slab))

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> "FakePeer":
        """Reach the engine that offers `handle`; takes no time, even when it times out."""
        return FakePeer(self._network, handle.session, self._network.reach(handle))

    def close(self) -> None:
        """Offer nothing any more."""
        self.unregister(list(self._bases))


class FakePeer:
    """One slab of another engine on the network."""

    def __init__(self, network: FakeNetwork, session: str, remote: Offered) -> None:
        self._network = network
        self._session = session
        self._remote = remote

    def submit(
        self,
        operation: Operation,
        local: Slab,
        *,
        local_offset: int,
        remote_offset: int,
        size_bytes: int,
    ) -> Ticket:
        """Begin a transfer that goes as the script says."""
        check_span(
            local,
            local_offset=local_offset,
            remote_offset=remote_offset,
            size_bytes=size_bytes,
            remote_size_bytes=self._remote.slab.size_bytes,
        )
        if operation is Operation.WRITE and not self._remote.is_writable:
            return refused(local, TransferFault.INCOMPATIBLE)
        here = (local, local_offset)
        there = (self._remote.slab, remote_offset)
        source, target = (there, here) if operation is Operation.READ else (here, there)
        return FakeTicket(self._network, self._session, local, source, target, size_bytes)

    def wait(self, pause_s: float) -> None:
        """Wait for `pause_s`: the end comes with a poll."""
        threading.Event().wait(pause_s)

    def close(self) -> None:
        """Nothing to let go of."""


class FakeTicket:
    """A transfer that moves its bytes in the poll that finds it done."""

    def __init__(
        self,
        network: FakeNetwork,
        session: str,
        local: Slab,
        source: tuple[Slab, int],
        target: tuple[Slab, int],
        size_bytes: int,
    ) -> None:
        self._ticket = LocalTicket(local)
        self._network = network
        self._session = session
        self._source = source
        self._target = target
        self._size_bytes = size_bytes
        self._script = network.begin(session)
        self._num_polls = 0

    @property
    def fault(self) -> TransferFault | None:
        """Why it failed; None unless it did."""
        return self._ticket.fault

    @property
    def digest(self) -> str | None:
        """None is computed."""
        return self._ticket.digest

    def poll(self) -> TicketState:
        """Advance by one step of the script and return where it stands."""
        if self._ticket.poll() is not TicketState.RUNNING:
            return self._ticket.poll()
        self._num_polls += 1
        if not self._network.is_alive(self._session):
            self._end(TransferFault.PEER_FAILED)
        elif self._num_polls >= self._script.polls and not self._script.hangs:
            self._end(self._script.fault)
        return self._ticket.poll()

    def _end(self, fault: TransferFault | None) -> None:
        self._network.num_under_way -= 1
        if fault is not None:
            self._ticket.fail(fault)
            return
        (source, source_offset), (target, target_offset) = self._source, self._target
        moved = source.view()[source_offset : source_offset + self._size_bytes]
        arrived = target.view()[target_offset : target_offset + self._size_bytes]
        arrived[:] = moved
        if self._script.corrupts:
            arrived[0] ^= 0xFF
        self._ticket.finish()
