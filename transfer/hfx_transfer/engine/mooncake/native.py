"""Makes native engines, which then live as long as the process."""

import ctypes

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake.native_library import Library, NativeEngine

_ATTEMPTS = 4
"""An engine draws its ports at random and gives up when it drew taken ones too often."""


def create(library: Library, host: str) -> NativeEngine:
    """Return a new engine that peers reach at `host`.

    It is never destroyed: its destructor holds the interpreter for a second, while an engine
    that does nothing costs two sleeping threads, two open ports and 0.1 MB. For the same reason
    the reference that is added here keeps it until the process ends.

    Raises:
        TransferError: it found no free port, or cannot use the adapters (unavailable).
    """
    for _ in range(_ATTEMPTS):
        native: NativeEngine = library.module.TransferEngine()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
        # Nothing but this may be called before it has returned 0: the library would crash.
        if native.initialize(host, "P2PHANDSHAKE", "tcp", "") == 0:
            return native
    raise TransferError(
        f"Mooncake made no engine for {host} in {_ATTEMPTS} attempts: see what it wrote to stderr",
        fault=TransferFault.UNAVAILABLE,
    )
