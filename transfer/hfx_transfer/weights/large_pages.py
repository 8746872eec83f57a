"""Moves what a seed serves onto large pages, beside the serving, so that it is mapped faster."""

import os
import threading

import structlog

from hfx_sgl.clock import Clock
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.weights.holding import Holding

_log = structlog.get_logger(__name__)

_LOWEST_PRIORITY = 19


class LargePages:
    """A thread that works through the shared slabs of one holding, at the lowest priority."""

    def __init__(self, holding: Holding, clock: Clock) -> None:
        self._slabs = [slab for slab in holding.slabs if isinstance(slab, SharedSlab)]
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hfx-large-pages", daemon=True)
        for slab in self._slabs:
            slab.pin()
        self._thread.start()

    def close(self) -> None:
        """Stop; returns when the slabs are let go, after one step at most."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        # Linux gives each thread a priority of its own; 0 is the one that calls.
        os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)
        began_at_s = self._clock.now_s()
        num_moved = 0
        for slab in self._slabs:
            num_moved += slab.move_to_large_pages(stop=self._stop)
            slab.unpin()
        duration_s = self._clock.now_s() - began_at_s
        _log.debug("moved_to_large_pages", num_bytes=num_moved, duration_s=round(duration_s, 3))
