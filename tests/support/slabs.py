"""Memory for tests of transfers, and processes that offer some."""

import contextlib
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import xxhash
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend, RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.window import Span, push
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.memory.slab import Slab

from hfx_sgl.clock import WallClock

MIB = 1 << 20

_START_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 10.0


def pattern(size_bytes: int, seed: int) -> bytes:
    """Return bytes of which no two stretches are alike."""
    return random.Random(seed).randbytes(size_bytes)


def filled(slab: Slab, seed: int) -> Slab:
    slab.view()[:] = pattern(slab.size_bytes, seed)
    return slab


def digest(slab: Slab) -> str:
    return xxhash.xxh3_128_hexdigest(slab.view())


@dataclass(slots=True, kw_only=True)
class SlabProcess:
    """Another process that offers one slab."""

    process: BaseProcess
    connection: Connection
    handle: RegionHandle
    digest: str
    """Of what the slab held at first."""

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def stop(self) -> None:
        """Let it run no further; returns when it has come to a halt."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.join(_END_TIMEOUT_S)

    def digest_by_now(self) -> str:
        """Return the digest of what the slab holds."""
        self.connection.send("digest")
        answer: str = self.connection.recv()
        return answer


@contextlib.contextmanager
def slab_process(
    backend: Backend,
    settings: EngineSettings,
    size_bytes: int,
    *,
    seed: int = 1,
    writable: bool = True,
) -> Iterator[SlabProcess]:
    """Start a process that offers a slab of pseudo-random bytes; end it on leaving."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=_offer, args=(there, backend, settings, size_bytes, seed, writable), daemon=True
    )
    process.start()
    there.close()
    try:
        if not here.poll(_START_TIMEOUT_S):
            raise TimeoutError("the process with the slab did not start")
        handle, slab_digest = here.recv()
        yield SlabProcess(process=process, connection=here, handle=handle, digest=slab_digest)
    finally:
        here.close()
        process.kill()
        process.join(_END_TIMEOUT_S)
        process.close()


@contextlib.contextmanager
def writing_process(
    backend: Backend, settings: EngineSettings, handle: RegionHandle, span_bytes: int
) -> Iterator[int]:
    """Start a process that writes to a slab again and again; yield its pid, end it on leaving."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=_write_for_ever, args=(backend, settings, handle, span_bytes), daemon=True
    )
    process.start()
    try:
        assert process.pid is not None
        yield process.pid
    finally:
        process.kill()
        process.join(_END_TIMEOUT_S)
        process.close()


def _write_for_ever(
    backend: Backend, settings: EngineSettings, handle: RegionHandle, span_bytes: int
) -> None:
    local = HostSlab(handle.size_bytes)
    peer = open_engine(backend, settings).connect(
        handle, first_contact_timeout_s=settings.first_contact_timeout_s
    )
    spans = [
        Span(local=local, local_offset=offset, remote_offset=offset, size_bytes=span_bytes)
        for offset in range(0, handle.size_bytes, span_bytes)
    ]
    while True:
        push(peer, spans, clock=WallClock(), on_done=lambda span, digest: None)


def _offer(
    connection: Connection,
    backend: Backend,
    settings: EngineSettings,
    size_bytes: int,
    seed: int,
    writable: bool,
) -> None:
    slab = SharedSlab(size_bytes) if backend is Backend.SHM else HostSlab(size_bytes)
    filled(slab, seed)
    engine = open_engine(backend, settings)
    [handle] = engine.register([slab], writable=writable)
    connection.send((handle, digest(slab)))
    with contextlib.suppress(EOFError, OSError):
        while connection.recv() == "digest":
            connection.send(digest(slab))
