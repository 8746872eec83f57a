"""The backends of one process, each started when it is first needed."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from hfx_sgl.errors import ConfigError, TransferError, TransferFault
from hfx_transfer.engine.protocol import Backend, RegionHandle, TransferEngine
from hfx_transfer.memory.slab import Slab

StartEngine = Callable[[Backend], TransferEngine]
"""Starts one backend; TransferError (unavailable) when it does not work here."""


class EngineSet:
    """Starts each backend once and registers each slab once with it, however many ask.

    A loader that serves what it has verified asks for the same slabs twice, and engines refuse
    memory that they know. Thread-safe; its owner closes it.
    """

    def __init__(self, start: StartEngine) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._engines: dict[Backend, TransferEngine | TransferError] = {}
        self._handles: dict[tuple[Backend, int], RegionHandle] = {}
        self._num_users: Counter[tuple[Backend, int]] = Counter()

    def get(self, backend: Backend) -> TransferEngine:
        """Return a started engine.

        Raises:
            TransferError: it does not work here; the same each time.
        """
        with self._lock:
            if backend not in self._engines:
                try:
                    self._engines[backend] = self._start(backend)
                except TransferError as exc:
                    self._engines[backend] = exc
                except ConfigError as exc:
                    # Mooncake's settings hold for the whole process, and others may have set them.
                    self._engines[backend] = TransferError(
                        f"{backend} cannot be set up: {exc}", fault=TransferFault.UNAVAILABLE
                    )
            found = self._engines[backend]
        if isinstance(found, TransferError):
            # A new one: an error that is raised twice gathers the traces of both.
            raise TransferError(str(found), fault=found.fault) from found
        return found

    def register(self, backend: Backend, slabs: Sequence[Slab]) -> list[RegionHandle]:
        """Let peers read these slabs, not write; as often as `unregister`.

        Raises:
            TransferError: the backend does not work here, or cannot offer one of them.
        """
        engine = self.get(backend)
        keys = [(backend, id(slab)) for slab in slabs]
        with self._lock:
            new = [slab for key, slab in zip(keys, slabs, strict=True) if not self._num_users[key]]
            handles = engine.register(new, writable=False) if new else ()
            for slab, handle in zip(new, handles, strict=True):
                self._handles[backend, id(slab)] = handle
            self._num_users.update(keys)
            return [self._handles[key] for key in keys]

    def unregister(self, backend: Backend, slabs: Sequence[Slab]) -> None:
        """Let no new transfer reach these slabs, once nobody else wants them reached."""
        engine = self.get(backend)
        with self._lock:
            unused = []
            for slab in slabs:
                key = (backend, id(slab))
                self._num_users[key] -= 1
                if not self._num_users[key]:
                    del self._num_users[key], self._handles[key]
                    unused.append(slab)
            if unused:
                engine.unregister(unused)

    def close(self) -> None:
        """Stop all engines. Nothing that was submitted to them is under way any more."""
        with self._lock:
            engines = list(self._engines.values())
            gone = TransferError("the engines were closed", fault=TransferFault.UNAVAILABLE)
            self._engines = dict.fromkeys(Backend, gone)
        for engine in engines:
            if not isinstance(engine, TransferError):
                engine.close()
