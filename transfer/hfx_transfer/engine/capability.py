"""Which backends work on this machine, found by trying, and how to open one.

Imports a backend only when it is asked for.
"""

import os
import subprocess
import sys
from pathlib import Path

from hfx_sgl.clock import Clock
from hfx_sgl.errors import TransferError
from hfx_transfer.engine.protocol import Backend, TransferEngine
from hfx_transfer.engine.settings import EngineSettings

_PROBE_TIMEOUT_S = 60.0
"""A cold import of the native library from a slow disk takes seconds; one that hangs, for ever."""

_PROBE = """
from hfx_sgl.errors import HfxError
from hfx_transfer.engine.mooncake.native_library import load
from hfx_transfer.engine.settings import EngineSettings
try:
    load(EngineSettings())
except HfxError as error:
    print(error)
"""

_TRIAL_BYTES = 4096


def available_backends() -> dict[Backend, str | None]:
    """Return for each backend None when it works here, else why it does not, in words.

    Mooncake is imported in a process of its own, which takes about half a second: the first
    import fixes its settings, and one that crashes takes its process along.
    """
    return {backend: _problem_with(backend) for backend in Backend}


def open_engine(
    backend: Backend, settings: EngineSettings, *, clock: Clock | None = None
) -> TransferEngine:
    """Start a backend in this process.

    Args:
        backend: which one.
        settings: where it listens and how long it waits.
        clock: measures its timeouts; None for the machine's.

    Raises:
        TransferError: it cannot run here; the message says what is missing (unavailable).
        ConfigError: the settings do not suit it.
    """
    match backend:
        case Backend.MOONCAKE:
            from hfx_transfer.engine.mooncake.backend import MooncakeEngine

            return MooncakeEngine(settings, clock=clock)
        case Backend.SOCKET:
            from hfx_transfer.engine.socket.engine import SocketEngine

            return SocketEngine(settings, clock=clock)
        case Backend.SHM:
            from hfx_transfer.engine.shm.engine import ShmEngine

            return ShmEngine(settings)
        case Backend.FILE:
            from hfx_transfer.engine.file.engine import FileEngine

            return FileEngine(settings)


def _problem_with(backend: Backend) -> str | None:
    try:
        match backend:
            case Backend.MOONCAKE:
                return _problem_with_mooncake()
            case Backend.SHM:
                _try_shm()
            case Backend.SOCKET:
                _try_socket()
            case Backend.FILE:
                _try_file()
    except TransferError as error:
        return str(error)
    return None


def _problem_with_mooncake() -> str | None:
    if "mooncake.engine" in sys.modules:
        return None
    # The child imports from where this process does, an editable tree included.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            env=environment,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing Mooncake took more than {_PROBE_TIMEOUT_S:g} s"
    if probe.returncode != 0:
        last_line = (probe.stderr.strip() or "no message").splitlines()[-1]
        return f"importing Mooncake ended the process ({probe.returncode}): {last_line}"
    return probe.stdout.strip() or None


def _try_shm() -> None:
    from hfx_transfer.engine.shm.engine import ShmEngine
    from hfx_transfer.memory.shared import SharedSlab

    engine = ShmEngine(EngineSettings())
    slab = SharedSlab(_TRIAL_BYTES)
    try:
        engine.map(engine.register([slab], writable=False)[0]).close()
    finally:
        slab.close()


def _try_socket() -> None:
    from hfx_transfer.engine.socket.engine import SocketEngine
    from hfx_transfer.memory.host import HostSlab

    slab = HostSlab(_TRIAL_BYTES)
    engine = SocketEngine(EngineSettings(lanes=1))
    try:
        [handle] = engine.register([slab], writable=False)
        engine.connect(
            handle, first_contact_timeout_s=EngineSettings().first_contact_timeout_s
        ).close()
    finally:
        engine.close()
        slab.close()


def _try_file() -> None:
    from hfx_transfer.engine.file.engine import FileEngine, file_handle

    engine = FileEngine(EngineSettings(lanes=1))
    handle = file_handle(Path(__file__))
    engine.connect(handle, first_contact_timeout_s=EngineSettings().first_contact_timeout_s).close()
