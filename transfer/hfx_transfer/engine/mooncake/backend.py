"""`MooncakeEngine`: transfers between hosts, and of device memory where the wheel was built for it.

A crash of the native library ends the process. Whoever must survive that uses
`hfx_transfer.engine.side`, which hosts this in a process of its own.
"""

import os
import socket
from collections.abc import Sequence

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake import native, native_library
from hfx_transfer.engine.mooncake.link import Contact, Link
from hfx_transfer.engine.mooncake.peer import MooncakePeer
from hfx_transfer.engine.mooncake.pool import LinkPool
from hfx_transfer.engine.mooncake.regions import Regions
from hfx_transfer.engine.mooncake.transport import TCP, device_kinds, is_tcp_forced, transport_of
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.devices import device_kind
from hfx_transfer.memory.slab import Slab

_CONNECT_TEST_TIMEOUT_S = 1.0


class MooncakeEngine:
    """Mooncake in this process.

    Whoever reaches its ports may read and write what is registered, also what was registered for
    reading only: it knows no token, and over TCP it listens on every interface. All engines of a
    process share the environment variables, so their timeouts, lanes and ports have to be the
    same.

    Args:
        settings: ports, timeouts and lanes. `token` has no effect, `listen_host` only that peers
            are told of it.
        clock: for rests after failures, and for telling these apart.

    Raises:
        TransferError: Mooncake cannot be loaded or makes no engine (unavailable).
        ConfigError: Mooncake was loaded before with other settings, or the ports are too high.
    """

    def __init__(self, settings: EngineSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = WallClock() if clock is None else clock
        self._library = native_library.load(settings)
        self._home = self._create()
        self._regions = Regions(self._home)
        # Mooncake looks for adapters for a second before it tells what it found.
        topology = "" if is_tcp_forced(os.environ) else self._home.get_local_topology()
        self._transport = transport_of(self._library, os.environ, topology)
        self._device_kinds = device_kinds(self._library)
        self._session = f"{_bracketed(settings.advertised_host)}:{self._home.get_rpc_port()}"
        self._pool = LinkPool(self._create_link, self._clock)
        self._is_closed = False
        self._pid = os.getpid()

    @property
    def backend(self) -> Backend:
        """`mooncake`."""
        return Backend.MOONCAKE

    @property
    def transport(self) -> str:
        """What moves the bytes in truth: `tcp`, `rdma`, `ascend`, `nvlink` or `nvlink_intra`."""
        return self._transport

    @property
    def session(self) -> str:
        """Where peers reach what is registered here: `host:port`."""
        return self._session

    @property
    def num_links(self) -> int:
        """How many native engines were made to reach peers."""
        return self._pool.num_links

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Let peers reach these slabs, each as a whole; all or none.

        `writable` cannot be enforced: Mooncake registers memory for both directions. Engines of
        this package do not write where the handle says not to; anybody else who reaches the port
        can.

        Raises:
            TransferError: a slab overlaps another, there are too many, or its device is unknown to
                this build (incompatible).
        """
        self._check_open()
        strange = {
            slab.device for slab in slabs if device_kind(slab.device) not in self._device_kinds
        }
        if strange:
            raise TransferError(
                f"this build of Mooncake does not move memory of {', '.join(sorted(strange))}",
                fault=TransferFault.INCOMPATIBLE,
            )
        self._regions.add(slabs)
        return [
            RegionHandle(
                backend=Backend.MOONCAKE,
                session=self._session,
                base=slab.address,
                size_bytes=slab.size_bytes,
                is_writable=writable,
            )
            for slab in slabs
        ]

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Let no new transfer reach them; those under way may still end."""
        self._regions.remove(slabs)

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> MooncakePeer:
        """Reach the peer that offers `handle`, within the limit.

        A first contact that fails is tried once more over a link that never saw the peer: an
        older one may remember a process that is gone, and fails now and then after failures.

        Raises:
            TransferError: nobody is there or the slab is not offered (unreachable), somebody
                says nothing (first_contact_timeout) or something else (protocol).
            ValueError: the handle is another backend's.
        """
        self._check_open()
        if handle.backend is not Backend.MOONCAKE:
            raise ValueError(f"a handle of {handle.backend}, not of mooncake")
        end_s = self._clock.now_s() + first_contact_timeout_s
        contact, link, has_met = self._meet(handle, end_s, fresh=False)
        if contact is Contact.FAILED or (contact is Contact.REFUSED and has_met):
            contact, link, _ = self._meet(handle, end_s, fresh=True)
        if contact is Contact.MADE:
            return self._peer(handle, link)
        raise _no_contact(contact, handle, first_contact_timeout_s)

    def probe(self, session: str, *, timeout_s: float) -> float | None:
        """Return how many seconds a sign of life from `session` takes; None when none comes.

        It opens a connection and exchanges one message on it, with no slab involved. The first
        exchange only proves that the peer lives; the second is measured.
        """
        self._check_open()
        end_s = self._clock.now_s() + timeout_s
        link = self._pool.acquire(session)
        contact = link.probe(session, timeout_s)
        began_at_s = self._clock.now_s()
        if contact is Contact.MADE:
            contact = link.probe(session, max(0.0, end_s - began_at_s))
        latency_s = self._clock.now_s() - began_at_s
        self._take_back(link, contact)
        return latency_s if contact is Contact.MADE else None

    def close(self) -> None:
        """Offer nothing any more. The native engines stay, idle, until the process ends."""
        self._is_closed = True
        self._regions.remove(self._regions.all())

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("the engine was closed")
        if os.getpid() != self._pid:
            # Its threads did not come along, and the library would spin for 30 s.
            raise ValueError("the engine was made before this process was forked")

    def _create(self) -> native_library.NativeEngine:
        return native.create(self._library, self._settings.advertised_host)

    def _create_link(self) -> Link:
        return Link(self._create(), registers=self._transport != TCP)

    def _meet(
        self, handle: RegionHandle, end_s: float, *, fresh: bool
    ) -> tuple[Contact, Link, bool]:
        """Try a first contact; also return the link, ours when it was MADE, and whether it had
        met the peer before."""
        link = self._pool.acquire(handle.session, fresh=fresh)
        has_met = handle.session in link.sessions_seen
        left_s = max(0.0, end_s - self._clock.now_s())
        contact = link.contact(handle.session, handle.base, handle.size_bytes, left_s)
        if contact is not Contact.MADE:
            self._take_back(link, contact)
        return contact, link, has_met

    def _peer(self, handle: RegionHandle, link: Link) -> MooncakePeer:
        return MooncakePeer(
            handle,
            link,
            device_kinds=self._device_kinds,
            clock=self._clock,
            progress_timeout_s=self._settings.progress_timeout_s,
            release=lambda link, healthy: (
                self._pool.give_back(link) if healthy else self._pool.rest(link)
            ),
        )

    def _take_back(self, link: Link, contact: Contact) -> None:
        match contact:
            case Contact.SILENT:
                self._pool.abandon(link)
            case Contact.FAILED:
                self._pool.rest(link)
            case Contact.MADE | Contact.REFUSED:
                # A session that cannot be opened leaves nothing behind.
                self._pool.give_back(link)


def _no_contact(contact: Contact, handle: RegionHandle, timeout_s: float) -> TransferError:
    if contact is Contact.SILENT:
        return TransferError(
            f"{handle.session} has not answered within {timeout_s:g} s",
            fault=TransferFault.FIRST_CONTACT_TIMEOUT,
        )
    if contact is Contact.FAILED:
        return TransferError(
            f"{handle.session} answers, but a first read failed twice: it does not offer "
            f"{handle.size_bytes} bytes at {handle.base:#x}",
            fault=TransferFault.UNREACHABLE,
        )
    if _accepts(handle.session):
        return TransferError(
            f"what answers at {handle.session} does not speak Mooncake's protocol",
            fault=TransferFault.PROTOCOL,
        )
    return TransferError(f"nobody answers at {handle.session}", fault=TransferFault.UNREACHABLE)


def _accepts(session: str) -> bool:
    """Whether anything listens there: Mooncake reports both cases alike."""
    host, _, port = session.rpartition(":")
    if not port.isdecimal():
        return False
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TEST_TIMEOUT_S):
            return True
    except (OSError, OverflowError):
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
