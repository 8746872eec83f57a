"""The shared memory that the side process has mapped, by name."""

import threading
from collections import Counter
from dataclasses import dataclass

from hfx_sgl.clock import Clock
from hfx_transfer.engine.side.messages import SlabName
from hfx_transfer.memory.shared import SharedSlab

IDLE_S = 5.0
"""How long memory stays mapped that nothing uses. Its owner does not say when it closes a slab, and
a mapping keeps the bytes in place; mapping anew costs a page fault for each page."""

_SWEEP_EVERY_S = 1.0


@dataclass(slots=True)
class _Attachment:
    slab: SharedSlab
    used_at_s: float


class Attachments:
    """Maps slabs when they are needed, and lets them go when they have been idle. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_name: dict[str, _Attachment] = {}
        self._kept: Counter[str] = Counter()
        self._swept_at_s = clock.now_s()

    def get(self, name: SlabName) -> SharedSlab:
        """Return the slab, mapped; to be pinned or kept within IDLE_S.

        Raises:
            TransferError: see `SharedSlab.attach`.
        """
        with self._lock:
            attachment = self._by_name.get(name.name)
            if attachment is None:
                slab = SharedSlab.attach(name.name, name.size_bytes, writable=True)
                attachment = self._by_name[name.name] = _Attachment(slab, 0.0)
            attachment.used_at_s = self._clock.now_s()
            return attachment.slab

    def keep(self, names: list[SlabName]) -> None:
        """Keep these mapped though nothing here uses them: peers reach them."""
        with self._lock:
            self._kept.update(name.name for name in names)

    def release(self, names: list[SlabName]) -> None:
        """Take one `keep` of each back."""
        with self._lock:
            self._kept.subtract(name.name for name in names)
            self._kept = +self._kept

    def close_idle(self) -> None:
        """Unmap what nothing has used for a while; looks about once a second."""
        with self._lock:
            now_s = self._clock.now_s()
            if now_s - self._swept_at_s < _SWEEP_EVERY_S:
                return
            self._swept_at_s = now_s
            for name, attachment in list(self._by_name.items()):
                is_used = attachment.slab.num_pins or name in self._kept
                if not is_used and now_s - attachment.used_at_s >= IDLE_S:
                    del self._by_name[name]
                    attachment.slab.close()
