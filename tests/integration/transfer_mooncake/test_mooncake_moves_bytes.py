import gc
import time

import pytest
import xxhash
from hfx_transfer.engine.mooncake.backend import MooncakeEngine
from hfx_transfer.engine.protocol import Backend, Operation, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.window import Span, pull, push
from hfx_transfer.memory.host import HostSlab
from support.loopback import in_loopback
from support.mooncake_peer import PROGRESS_TIMEOUT_S, MooncakePeerProcess, pattern

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

MIB = 1 << 20
SETTINGS = EngineSettings(progress_timeout_s=PROGRESS_TIMEOUT_S)


def spans(local: HostSlab, chunk_bytes: int) -> list[Span]:
    return [
        Span(
            local=local,
            local_offset=offset,
            remote_offset=offset,
            size_bytes=min(chunk_bytes, local.size_bytes - offset),
        )
        for offset in range(0, local.size_bytes, chunk_bytes)
    ]


@in_loopback
def test_several_slabs_are_read_and_written() -> None:
    sizes_bytes = [1, 4097, 3 * MIB + 5, 40 * MIB]
    source = MooncakePeerProcess(*sizes_bytes)
    engine = MooncakeEngine(SETTINGS)
    assert engine.backend is Backend.MOONCAKE
    assert engine.transport == "tcp"
    for number, handle in enumerate(source.handles):
        assert handle.size_bytes == sizes_bytes[number]
        local = HostSlab(handle.size_bytes)
        peer = engine.connect(handle, first_contact_timeout_s=5)
        pull(peer, spans(local, 8 * MIB), clock=WallClock(), on_done=lambda span, digest: None)
        expected = pattern(local.size_bytes, number)
        assert bytes(local.view()) == expected
        local.view()[:] = changed = bytes(255 - byte for byte in expected)
        push(peer, spans(local, 8 * MIB), clock=WallClock(), on_done=lambda span, digest: None)
        assert source.digest(number) == xxhash.xxh3_64_hexdigest(changed)
        assert local.num_pins == 0
        peer.close()


@in_loopback
def test_more_transfers_than_the_library_queues_go_through_a_window() -> None:
    # Beyond some 2048 outstanding transfers it fails all that follow.
    source = MooncakePeerProcess(5000 * 512)
    engine = MooncakeEngine(SETTINGS)
    local = HostSlab(5000 * 512)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    pull(peer, spans(local, 512), clock=WallClock(), on_done=lambda span, digest: None)
    assert bytes(local.view()) == pattern(local.size_bytes, 0)


@in_loopback
def test_a_final_state_is_final() -> None:
    source = MooncakePeerProcess(MIB)
    engine = MooncakeEngine(SETTINGS)
    local = HostSlab(MIB)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=MIB)
    local.close()
    while ticket.poll() is TicketState.RUNNING:
        assert local.num_pins == 1
        time.sleep(0.001)
    # The library would read freed memory from here on.
    assert [ticket.poll() for _ in range(1000)] == [TicketState.DONE] * 1000
    assert ticket.fault is None
    assert local.num_pins == 0


@in_loopback
def test_links_are_used_again_by_the_same_peer() -> None:
    source = MooncakePeerProcess(MIB)
    engine = MooncakeEngine(SETTINGS)
    for _ in range(20):
        engine.connect(source.handles[0], first_contact_timeout_s=5).close()
        assert engine.probe(source.handles[0].session, timeout_s=5) is not None
    # Neither is nobody's port a reason for another one.
    for _ in range(20):
        assert engine.probe("127.0.0.1:9", timeout_s=5) is None
    assert engine.num_links <= 2


@in_loopback
def test_what_was_unregistered_is_not_offered() -> None:
    source = MooncakePeerProcess(MIB, MIB)
    engine = MooncakeEngine(SETTINGS)
    source.ask("unregister", 0)
    with pytest.raises(TransferError, match="does not offer") as caught:
        engine.connect(source.handles[0], first_contact_timeout_s=5)
    assert caught.value.fault is TransferFault.UNREACHABLE
    engine.connect(source.handles[1], first_contact_timeout_s=5)


@in_loopback
def test_a_refused_registration_leaves_nothing_registered() -> None:
    engine = MooncakeEngine(SETTINGS)
    first, second = HostSlab(MIB), HostSlab(MIB)
    (earlier,) = engine.register([first], writable=True)
    with pytest.raises(TransferError) as caught:
        engine.register([second, first], writable=True)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
    (handle,) = engine.register([second], writable=True)
    second.view()[:4] = b"here"
    reader, local = MooncakeEngine(SETTINGS), HostSlab(4)
    peer = reader.connect(handle, first_contact_timeout_s=5)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=4)
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    assert bytes(local.view()) == b"here"
    # What had been registered before still is.
    reader.connect(earlier, first_contact_timeout_s=5)


@in_loopback
def test_a_closed_engine_offers_nothing() -> None:
    engine, other, slab = MooncakeEngine(SETTINGS), MooncakeEngine(SETTINGS), HostSlab(MIB)
    (handle,) = engine.register([slab], writable=True)
    engine.close()
    with pytest.raises(TransferError):
        other.connect(handle, first_contact_timeout_s=5)
    with pytest.raises(ValueError, match="closed"):
        engine.register([slab], writable=True)


@in_loopback
def test_dropping_an_engine_destroys_nothing() -> None:
    # A destructor of the library holds the interpreter for a second, whoever happens to run it.
    source = MooncakePeerProcess(MIB)
    engine = MooncakeEngine(SETTINGS)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    engine.close()
    began_at_s = time.monotonic()
    del engine, peer
    gc.collect()
    assert time.monotonic() - began_at_s < 0.9
