"""One native engine, lent to one peer at a time, and its first contact with that peer.

The first transfer to a session makes the library open it, which takes up to 61 s when the peer
accepts and stays silent. All other transfers of the same native engine wait meanwhile, and nothing
ends that wait. So each peer has an engine of its own, and first contact happens on a thread that is
left behind when it takes too long, engine and all.
"""

import mmap
import threading
from collections.abc import Callable
from enum import StrEnum

from hfx_transfer.engine.mooncake.native_library import NativeEngine
from hfx_transfer.engine.mooncake.regions import Regions
from hfx_transfer.memory.aligned import address_of
from hfx_transfer.memory.slab import Slab

_CONTACT_BYTES = 8
_POLL_PAUSE_S = 0.0005


class Contact(StrEnum):
    """How a first contact ended."""

    MADE = "made"
    REFUSED = "refused"
    """The session could not be opened: nobody there, or it does not speak Mooncake's protocol."""
    FAILED = "failed"
    """It was opened, and the transfer failed all the same."""
    SILENT = "silent"
    """It has not ended within the limit, and goes on."""


class Link:
    """One native engine with what it needs for any peer.

    Args:
        native: the engine.
        registers: whether local slabs have to be registered with it; over TCP they need not be,
            and nobody reaches what is not registered.
    """

    def __init__(self, native: NativeEngine, *, registers: bool) -> None:
        self.native = native
        self.regions = Regions(native)
        self.registers = registers
        self.session: str | None = None
        """Whom it is lent to or was lent to last; None when its state tells of nobody."""
        self.sessions_seen: set[str] = set()
        """Sessions whose address book it keeps: of one that began anew it has an old one."""
        self._scratch = mmap.mmap(-1, mmap.PAGESIZE)
        self._preparing = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether a contact goes on that nobody waits for any more."""
        return self._thread is not None and self._thread.is_alive()

    def contact(self, session: str, address: int, size_bytes: int, timeout_s: float) -> Contact:
        """Read a few bytes of the peer's slab; the data port answers too when this is MADE.

        A read of no bytes would not do: once a session was opened it succeeds at a dead peer.
        """
        num_bytes = min(_CONTACT_BYTES, size_bytes)
        return self._attempt(
            session, lambda: self._read(session, address, num_bytes), timeout_s=timeout_s
        )

    def probe(self, session: str, timeout_s: float) -> Contact:
        """Ask the session's port for a sign of life; needs no slab there."""
        return self._attempt(
            session,
            lambda: Contact.MADE if self.native.send_probe(session) == 0 else Contact.REFUSED,
            timeout_s=timeout_s,
        )

    def prepare(self, slab: Slab) -> None:
        """Make the local slab usable for transfers.

        Raises:
            TransferError: it cannot be registered.
        """
        if not self.registers:
            return
        with self._preparing:
            if self.regions.holds(slab):
                return
            # The adapter has its own map of this memory: pinned until that is given up.
            slab.pin()
            try:
                self.regions.add([slab])
            except BaseException:
                slab.unpin()
                raise

    def forget_slabs(self) -> None:
        """Take back what `prepare` registered; nothing may be under way."""
        slabs = self.regions.all()
        self.regions.remove(slabs)
        for slab in slabs:
            slab.unpin()

    def _attempt(self, session: str, act: Callable[[], Contact], *, timeout_s: float) -> Contact:
        results: list[Contact] = []
        done = threading.Event()

        def run() -> None:
            results.append(act())
            done.set()

        self.session = session
        self._thread = threading.Thread(target=run, name=f"mooncake {session}", daemon=True)
        self._thread.start()
        if not done.wait(timeout_s):
            return Contact.SILENT
        self._thread.join()
        self._thread = None
        return results[0]

    def _read(self, session: str, address: int, num_bytes: int) -> Contact:
        transfer_id = self.native.batch_transfer_async_read(
            session, [address_of(self._scratch)], [address], [num_bytes]
        )
        if transfer_id == 0:
            return Contact.REFUSED
        self.sessions_seen.add(session)
        pause = threading.Event()
        while (status := self.native.transfer_check_status(transfer_id)) == 0:
            pause.wait(_POLL_PAUSE_S)
        return Contact.MADE if status == 1 else Contact.FAILED
