"""Who waits for a transfer is woken by its end: here nothing else would, within the test's time."""

import pytest
from hfx_transfer.engine import tickets
from hfx_transfer.engine.capability import open_engine
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.window import Span, WindowLimits, pull
from hfx_transfer.memory.host import HostSlab
from support.slabs import MIB, digest, slab_process

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError

SIZE = 16 * MIB
SETTINGS = EngineSettings()


@pytest.fixture(autouse=True)
def no_other_end_of_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "_LONGEST_WAIT_S", 1_000.0)


def read_all(backend: Backend, *, kills: bool = False) -> bool:
    with slab_process(backend, SETTINGS, SIZE) as source:
        engine, local = open_engine(backend, SETTINGS), HostSlab(SIZE)
        peer = engine.connect(source.handle, first_contact_timeout_s=5.0)
        if kills:
            source.kill()
        spans = [
            Span(local=local, local_offset=at, remote_offset=at, size_bytes=MIB)
            for at in range(0, SIZE, MIB)
        ]
        try:
            pull(
                peer,
                spans,
                clock=WallClock(),
                on_done=lambda span, found: None,
                limits=WindowLimits(window=2),
            )
            return digest(local) == source.digest
        finally:
            peer.close()
            engine.close()


@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_by_each_read_that_is_done(backend: Backend) -> None:
    assert read_all(backend)


def test_by_a_read_that_fails() -> None:
    with pytest.raises(TransferError):
        read_all(Backend.SOCKET, kills=True)
