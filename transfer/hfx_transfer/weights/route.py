"""By which backend the slabs of one source are reached: the first preferred one that works."""

from collections.abc import Sequence

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, Peer, RegionHandle
from hfx_transfer.weights.engines import EngineSet
from hfx_transfer.weights.manifest import Manifest


class Route:
    """The peers of one source, connected slab by slab. For one thread.

    A backend counts as working when the source offers every slab by it, it starts on this side
    and a first contact succeeds: shared memory of another host, say, fails at the last.
    """

    def __init__(
        self,
        manifest: Manifest,
        engines: EngineSet,
        backends: Sequence[Backend],
        *,
        first_contact_timeout_s: float,
    ) -> None:
        self._engines = engines
        self._first_contact_timeout_s = first_contact_timeout_s
        self._choices = [
            (backend, handles)
            for backend in backends
            if (handles := handles_of(manifest, backend)) is not None
        ]
        self._offered = sorted({r.backend.value for slab in manifest.slabs for r in slab.regions})
        self._peers: dict[int, Peer] = {}
        self.backend: Backend | None = None
        """What is used; None before the first contact."""
        self.transport: str | None = None
        """What moves the bytes in truth; None before the first contact."""

    def peer(self, slab: int) -> Peer:
        """Return the peer that offers a slab, reached.

        Raises:
            TransferError: it cannot be reached; before the first contact, by no backend.
        """
        if slab not in self._peers:
            self._peers[slab] = self._connect(slab)
        return self._peers[slab]

    def close(self) -> None:
        """Let go of all peers; `peer` would connect again, by the same backend."""
        for peer in self._peers.values():
            peer.close()
        self._peers.clear()

    def _connect(self, slab: int) -> Peer:
        failures: list[TransferError] = []
        for backend, handles in list(self._choices):
            try:
                engine = self._engines.get(backend)
                peer = engine.connect(
                    handles[slab], first_contact_timeout_s=self._first_contact_timeout_s
                )
            except TransferError as exc:
                failures.append(exc)
                continue
            self.backend, self.transport = backend, engine.transport
            # Kept from here on: the next slab or attempt does not start over with the others.
            self._choices = [(backend, handles)]
            return peer
        if not failures:
            raise TransferError(
                f"it offers {', '.join(self._offered) or 'nothing'}, none of which is wanted here",
                fault=TransferFault.INCOMPATIBLE,
            )
        reasons = "; ".join(str(failure) for failure in failures)
        raise TransferError(reasons, fault=failures[-1].fault) from failures[-1]


def handles_of(manifest: Manifest, backend: Backend) -> list[RegionHandle] | None:
    """Return the handle of each slab for one backend; None when a slab has none."""
    handles = []
    for slab in manifest.slabs:
        handle = next((region for region in slab.regions if region.backend is backend), None)
        if handle is None:
            return None
        handles.append(handle)
    return handles
