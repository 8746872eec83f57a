"""Shared memory between two processes of one host."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.shm.engine import ShmEngine
from hfx_transfer.engine.window import Span, pull, push
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SHARED_MEMORY_FOLDER, SharedSlab, sweep_dead_names
from hfx_transfer.memory.slab import Slab
from support.slabs import MIB, SlabProcess, digest, filled, pattern, slab_process

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

SIZE = 16 * MIB
CHUNK = 1 * MIB
SETTINGS = EngineSettings()


@pytest.fixture
def source() -> Iterator[SlabProcess]:
    with slab_process(Backend.SHM, SETTINGS, SIZE) as process:
        yield process
    sweep_dead_names()


@pytest.fixture
def engine() -> ShmEngine:
    return ShmEngine(SETTINGS)


def spans(local: Slab) -> list[Span]:
    return [
        Span(local=local, local_offset=offset, remote_offset=offset, size_bytes=CHUNK)
        for offset in range(0, SIZE, CHUNK)
    ]


def path_of(handle: RegionHandle) -> Path:
    assert handle.name is not None
    return SHARED_MEMORY_FOLDER / handle.name


def test_a_slab_is_pulled_and_pushed_whole(source: SlabProcess, engine: ShmEngine) -> None:
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=1)
    pull(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
    assert digest(local) == source.digest
    filled(local, 5)
    push(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
    assert source.digest_by_now() == digest(local) != source.digest
    assert local.num_pins == 0
    peer.close()


def test_a_mapped_slab_is_the_owners_memory_and_protected_from_our_writes(
    source: SlabProcess, engine: ShmEngine
) -> None:
    mapped = engine.map(source.handle)
    assert digest(mapped) == source.digest
    peer = engine.connect(source.handle, first_contact_timeout_s=1)
    news = filled(HostSlab(CHUNK), 7)
    ticket = peer.submit(
        Operation.WRITE, news, local_offset=0, remote_offset=CHUNK, size_bytes=CHUNK
    )
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    assert mapped.view()[CHUNK : 2 * CHUNK] == news.view(), "it was not a copy"
    mapped.view()[:4] = b"mine"
    assert bytes(mapped.view()[:4]) == b"mine"
    assert source.digest_by_now() != digest(mapped), "the owner does not see what we wrote"
    assert mapped.shared_name is None
    peer.close()
    mapped.close()


def test_a_slab_that_is_not_writable_is_mapped_for_reading(engine: ShmEngine) -> None:
    with slab_process(Backend.SHM, SETTINGS, SIZE, writable=False) as source:
        assert not source.handle.is_writable
        peer = engine.connect(source.handle, first_contact_timeout_s=1)
        mappings = [
            line.split()[1]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if str(source.handle.name) in line
        ]
        assert mappings == ["rw-p"], "what would be written stays here"
        local = filled(HostSlab(SIZE), 5)
        write = peer.submit(
            Operation.WRITE, local, local_offset=0, remote_offset=0, size_bytes=SIZE
        )
        assert (write.poll(), write.fault) == (TicketState.FAILED, TransferFault.INCOMPATIBLE)
        assert local.num_pins == 0
        pull(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
        assert digest(local) == source.digest == source.digest_by_now()
        peer.close()
    sweep_dead_names()


def test_an_owner_that_was_killed_is_unreachable_and_its_name_goes_away(
    source: SlabProcess, engine: ShmEngine
) -> None:
    peer = engine.connect(source.handle, first_contact_timeout_s=1)
    source.kill()
    assert path_of(source.handle).exists(), "nobody was left to remove it"
    local = HostSlab(SIZE)
    pull(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
    assert digest(local) == source.digest, "who had mapped it keeps the bytes"
    with pytest.raises(TransferError, match=r"owner .* is gone") as caught:
        engine.connect(source.handle, first_contact_timeout_s=1)
    assert caught.value.fault is TransferFault.UNREACHABLE
    assert not path_of(source.handle).exists()
    peer.close()


def test_a_new_slab_sweeps_what_dead_owners_left_and_nothing_else(source: SlabProcess) -> None:
    mine = SharedSlab(4096)
    foreign = SHARED_MEMORY_FOLDER / f"hfx-test-{os.getpid()}"
    foreign.touch()
    try:
        source.kill()
        assert path_of(source.handle).exists()
        SharedSlab(4096).close()
        assert not path_of(source.handle).exists()
        assert foreign.exists()
        assert mine.shared_name is not None
        assert (SHARED_MEMORY_FOLDER / mine.shared_name).exists()
    finally:
        foreign.unlink()
        mine.close()


def test_a_closed_slab_cannot_be_found_while_pinned_ones_keep_their_bytes(
    engine: ShmEngine,
) -> None:
    slab = SharedSlab(SIZE)
    filled(slab, 2)
    [handle] = engine.register([slab], writable=True)
    slab.pin()
    slab.close()
    with pytest.raises(TransferError) as caught:
        engine.map(handle)
    assert caught.value.fault is TransferFault.UNREACHABLE
    assert slab.view() == pattern(SIZE, 2)
    slab.unpin()
    with pytest.raises(ValueError, match="closed"):
        slab.view()


def test_a_process_that_ends_leaves_no_name_even_if_it_closed_nothing() -> None:
    code = "from hfx_transfer.memory.shared import SharedSlab; print(SharedSlab(4096).shared_name)"
    name = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()
    assert name.startswith("hfx-")
    assert not (SHARED_MEMORY_FOLDER / name).exists()


def test_no_descriptor_stays_open() -> None:
    def num_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = num_descriptors()
    for _ in range(5):
        slab = SharedSlab(4096)
        assert slab.shared_name is not None
        SharedSlab.attach(slab.shared_name, 4096, writable=True).close()
        slab.close()
    assert num_descriptors() == before


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"session": "another-boot:1a"}, TransferFault.UNREACHABLE),
        ({"name": "hfx-" + "0" * 32}, TransferFault.UNREACHABLE),
        ({"name": "../etc/passwd"}, TransferFault.UNREACHABLE),
        ({"size_bytes": SIZE + 1}, TransferFault.INCOMPATIBLE),
    ],
)
def test_a_handle_that_leads_nowhere_is_refused(
    engine: ShmEngine, change: dict[str, object], fault: TransferFault
) -> None:
    slab = SharedSlab(SIZE)
    [handle] = engine.register([slab], writable=True)
    fields = {name: getattr(handle, name) for name in handle.__struct_fields__} | change
    with pytest.raises(TransferError) as caught:
        engine.connect(RegionHandle(**fields), first_contact_timeout_s=1)
    assert caught.value.fault is fault
    slab.close()


def test_memory_that_is_not_shared_is_not_offered(engine: ShmEngine) -> None:
    shared = SharedSlab(4096)
    with pytest.raises(TransferError, match="not shared memory") as caught:
        engine.register([shared, HostSlab(4096)], writable=True)
    assert caught.value.fault is TransferFault.UNAVAILABLE
    assert len(engine.register([shared], writable=True)) == 1, "nothing was registered before"
    shared.close()


def test_more_than_there_is_room_for_is_an_error_and_leaves_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def no_room(fd: int, offset: int, size: int) -> None:
        made.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(TransferError, match="No space left") as caught:
        SharedSlab(4096)
    assert caught.value.fault is TransferFault.UNAVAILABLE
    assert len(made) == 1
    assert not made[0].exists()


def test_a_closed_peer_ends_what_is_under_way_and_takes_no_more(
    source: SlabProcess, engine: ShmEngine
) -> None:
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=1)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=SIZE)
    peer.close()
    late = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=1)
    assert (late.poll(), late.fault) == (TicketState.FAILED, TransferFault.ABORTED)
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    assert ticket.poll() is TicketState.DONE
    assert digest(local) == source.digest
    assert local.num_pins == 0
