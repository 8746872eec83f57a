"""The socket backend as an engine."""

import threading
from collections.abc import Sequence

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import ConfigError, TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.engine.registry import Registry
from hfx_transfer.engine.settings import EngineSettings, is_loopback
from hfx_transfer.engine.socket.dial import dial
from hfx_transfer.engine.socket.peer import SocketPeer
from hfx_transfer.engine.socket.server import Server
from hfx_transfer.memory.devices import synchronize
from hfx_transfer.memory.slab import Slab

_LANES = 2


class SocketEngine:
    """Serves slabs on a TCP port and reaches those of others.

    The port is opened with the first slab that is registered: who only reads from others listens
    nowhere. When a transfer fails its connections are closed before its ticket says so, and no
    byte arrives in the local slab after that.

    Raises:
        ConfigError: it would listen to other hosts without a token.
    """

    def __init__(self, settings: EngineSettings, *, clock: Clock | None = None) -> None:
        if settings.token is None and not is_loopback(settings.listen_host):
            raise ConfigError(
                f"token: must be given when listen_host is not loopback ({settings.listen_host}); "
                f"whoever reaches the port could read and write the registered memory"
            )
        self._settings = settings
        self._clock = WallClock() if clock is None else clock
        self._registry = Registry()
        self._opening = threading.Lock()
        self._server: Server | None = None

    @property
    def backend(self) -> Backend:
        """`socket`."""
        return Backend.SOCKET

    @property
    def transport(self) -> str:
        """`tcp`."""
        return "tcp"

    def register(self, slabs: Sequence[Slab], *, writable: bool) -> list[RegionHandle]:
        """Serve these slabs. What a device has queued for them is awaited first.

        Writes to those that are not writable are refused here, whoever sends them.

        Raises:
            TransferError: a slab overlaps a registered one (incompatible), or the port cannot be
                opened (unavailable).
        """
        for device in {slab.device for slab in slabs}:
            synchronize(device)
        session = f"{_bracketed(self._settings.advertised_host)}:{self._open_port()}"
        ids = self._registry.add(slabs, writable=writable)
        return [
            RegionHandle(
                backend=Backend.SOCKET,
                session=session,
                base=slab_id,
                size_bytes=slab.size_bytes,
                is_writable=writable,
            )
            for slab_id, slab in zip(ids, slabs, strict=True)
        ]

    def unregister(self, slabs: Sequence[Slab]) -> None:
        """Refuse new transfers with them; those under way go on and keep them pinned."""
        self._registry.remove(slabs)

    def connect(self, handle: RegionHandle, *, first_contact_timeout_s: float) -> SocketPeer:
        """Open the connections to a peer and prove who we are.

        Raises:
            TransferError: unreachable, first_contact_timeout, protocol or unauthorized.
            ValueError: the handle is another backend's.
        """
        if handle.backend is not Backend.SOCKET:
            raise ValueError(f"a handle of {handle.backend} is nothing for sockets")
        wires = dial(
            handle,
            num_lanes=self._settings.lanes or _LANES,
            token=self._settings.token,
            clock=self._clock,
            progress_timeout_s=self._settings.progress_timeout_s,
            first_contact_timeout_s=first_contact_timeout_s,
        )
        return SocketPeer(wires, handle.size_bytes)

    def close(self) -> None:
        """Close the port and the connections that others opened; peers are closed by who did."""
        if self._server is not None:
            self._server.close()

    def _open_port(self) -> int:
        settings = self._settings
        with self._opening:
            if self._server is None:
                try:
                    self._server = Server(self._registry, settings, self._clock)
                except OSError as error:
                    raise TransferError(
                        f"cannot listen on {settings.listen_host}:{settings.port or 0}: {error}",
                        fault=TransferFault.UNAVAILABLE,
                    ) from error
            return self._server.port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
