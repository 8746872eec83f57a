"""Files read into slabs."""

import os
import time
from pathlib import Path

import pytest
import torch
from hfx_transfer.engine.file.engine import FileEngine, file_handle
from hfx_transfer.engine.protocol import Backend, Operation, Ticket, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.window import Span, pull
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.tensor import TensorSlab
from support.slabs import MIB, pattern

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

SIZE = 9 * MIB + 13
CHUNK = 2 * MIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(pattern(SIZE, 1))
    return path


@pytest.fixture
def engine() -> FileEngine:
    return FileEngine(EngineSettings())


def final_state(ticket: Ticket) -> TicketState:
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    return ticket.poll()


def test_a_file_is_read_whole_and_closed(path: Path, engine: FileEngine) -> None:
    before = len(os.listdir("/proc/self/fd"))
    handle = file_handle(path)
    assert (handle.backend, handle.size_bytes, handle.name) == (Backend.FILE, SIZE, str(path))
    local = HostSlab(SIZE)
    peer = engine.connect(handle, first_contact_timeout_s=1)
    spans = [
        Span(
            local=local,
            local_offset=offset,
            remote_offset=offset,
            size_bytes=min(CHUNK, SIZE - offset),
        )
        for offset in range(0, SIZE, CHUNK)
    ]
    pull(peer, spans, clock=WallClock(), on_done=lambda span, digest: None)
    assert local.view() == pattern(SIZE, 1)
    assert local.num_pins == 0
    peer.close()
    del peer
    end_s = time.monotonic() + 5.0
    while len(os.listdir("/proc/self/fd")) > before:
        assert time.monotonic() < end_s, "the file is still open"
        time.sleep(0.005)


def test_parts_of_a_file_land_where_they_were_asked_for(path: Path, engine: FileEngine) -> None:
    local = HostSlab(1000)
    peer = engine.connect(file_handle(path), first_contact_timeout_s=1)
    ticket = peer.submit(
        Operation.READ, local, local_offset=100, remote_offset=SIZE - 50, size_bytes=50
    )
    assert final_state(ticket) is TicketState.DONE
    assert bytes(local.view()) == bytes(100) + pattern(SIZE, 1)[-50:] + bytes(850)
    peer.close()


def test_device_memory_is_filled_through_a_stage(path: Path, engine: FileEngine) -> None:
    class OnDevice(TensorSlab):
        device = "cuda:0"

    def new_stage(slab: object) -> memoryview:
        return memoryview(bytearray(4 * MIB))

    memory = torch.zeros(SIZE, dtype=torch.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hfx_transfer.engine.file.engine.new_stage", new_stage)
        peer = engine.connect(file_handle(path), first_contact_timeout_s=1)
        ticket = peer.submit(
            Operation.READ, OnDevice(memory), local_offset=0, remote_offset=0, size_bytes=SIZE
        )
        assert final_state(ticket) is TicketState.DONE
    assert TensorSlab(memory).view() == pattern(SIZE, 1)
    peer.close()


def test_a_file_that_became_shorter_fails_the_read(path: Path, engine: FileEngine) -> None:
    peer = engine.connect(file_handle(path), first_contact_timeout_s=1)
    os.truncate(path, MIB)
    local = HostSlab(SIZE)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=SIZE)
    assert (final_state(ticket), ticket.fault) == (TicketState.FAILED, TransferFault.PEER_FAILED)
    assert local.num_pins == 0
    peer.close()


def test_a_file_that_cannot_be_read_is_refused(path: Path, engine: FileEngine) -> None:
    handle = file_handle(path)
    os.truncate(path, MIB)
    with pytest.raises(TransferError, match=f"has {MIB} bytes, not {SIZE}") as caught:
        engine.connect(handle, first_contact_timeout_s=1)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
    path.unlink()
    with pytest.raises(TransferError, match="No such file") as caught:
        engine.connect(handle, first_contact_timeout_s=1)
    assert caught.value.fault is TransferFault.UNREACHABLE


def test_only_regular_files_with_bytes_have_handles(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path, Path("/dev/null")):
        with pytest.raises(TransferError) as caught:
            file_handle(path)
        assert caught.value.fault is TransferFault.UNREACHABLE


def test_nothing_is_written_and_no_memory_offered(path: Path, engine: FileEngine) -> None:
    peer = engine.connect(file_handle(path), first_contact_timeout_s=1)
    local = HostSlab(16)
    with pytest.raises(ValueError, match="does not write"):
        peer.submit(Operation.WRITE, local, local_offset=0, remote_offset=0, size_bytes=16)
    assert local.num_pins == 0
    with pytest.raises(TransferError, match="offers no memory"):
        engine.register([local], writable=False)
    peer.close()
