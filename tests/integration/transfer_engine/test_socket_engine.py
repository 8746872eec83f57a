"""The socket backend between two processes, and what goes wrong between them."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
import torch
from hfx_transfer.engine.protocol import Backend, Operation, Peer, Ticket, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.socket.engine import SocketEngine
from hfx_transfer.engine.window import Span, pull, push
from hfx_transfer.memory.copying import STAGE_BYTES
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.slab import Slab
from hfx_transfer.memory.tensor import TensorSlab
from support.slabs import (
    MIB,
    SlabProcess,
    digest,
    filled,
    pattern,
    slab_process,
    writing_process,
)

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferError, TransferFault

SIZE = 96 * MIB
CHUNK = 4 * MIB
TOKEN = "let me in"
SETTINGS = EngineSettings(token=TOKEN, progress_timeout_s=0.6, first_contact_timeout_s=3.0)
CONTACT_S = 3.0


@pytest.fixture
def source() -> Iterator[SlabProcess]:
    with slab_process(Backend.SOCKET, SETTINGS, SIZE) as process:
        yield process


@pytest.fixture
def engine() -> Iterator[SocketEngine]:
    engine = SocketEngine(SETTINGS)
    yield engine
    engine.close()


def spans(local: Slab) -> Iterator[Span]:
    for offset in range(0, local.size_bytes, CHUNK):
        yield Span(local=local, local_offset=offset, remote_offset=offset, size_bytes=CHUNK)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.005)


def final_state(ticket: Ticket) -> TicketState:
    wait_until(lambda: ticket.poll() is not TicketState.RUNNING)
    return ticket.poll()


def read(peer: Peer, local: Slab, *, offset: int = 0) -> Ticket:
    return peer.submit(
        Operation.READ, local, local_offset=offset, remote_offset=offset, size_bytes=CHUNK
    )


def test_a_slab_is_pulled_and_pushed_whole(source: SlabProcess, engine: SocketEngine) -> None:
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    pull(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
    assert digest(local) == source.digest
    filled(local, 99)
    push(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
    assert source.digest_by_now() == digest(local) != source.digest
    assert local.num_pins == 0
    peer.close()


def pull_and_interfere(
    engine: SocketEngine, source: SlabProcess, interfere: Callable[[], None]
) -> tuple[HostSlab, TransferError, float]:
    """Pull; after the first chunk let something happen. Return slab, error and how long it took."""
    local = HostSlab(SIZE, prefault=True)
    peer = engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    happened_at_s: list[float] = []

    def on_done(span: Span, digest: str | None) -> None:
        if not happened_at_s:
            interfere()
            happened_at_s.append(time.monotonic())

    with pytest.raises(TransferError) as caught:
        pull(peer, spans(local), clock=WallClock(), on_done=on_done)
    return local, caught.value, time.monotonic() - happened_at_s[0]


def test_a_source_that_is_killed_fails_the_pull_at_once(
    source: SlabProcess, engine: SocketEngine
) -> None:
    local, error, took_s = pull_and_interfere(engine, source, source.kill)
    assert error.fault is TransferFault.PEER_FAILED
    assert not error.quarantined
    assert took_s < 2.0
    assert local.num_pins == 0
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    assert caught.value.fault is TransferFault.UNREACHABLE


def test_a_source_that_hangs_costs_one_progress_timeout_and_no_byte_comes_late(
    source: SlabProcess, engine: SocketEngine
) -> None:
    local, error, took_s = pull_and_interfere(engine, source, source.stop)
    assert error.fault is TransferFault.STALLED
    assert not error.quarantined
    assert 0.5 <= took_s < 2 * SETTINGS.progress_timeout_s + 1.0
    assert local.num_pins == 0
    local.view()[:] = bytes(SIZE)
    before = digest(local)
    source.resume()
    assert source.digest_by_now() == source.digest, "it runs again, and could send"
    time.sleep(0.3)
    assert digest(local) == before


def test_a_peer_that_failed_fails_what_is_asked_of_it_later(
    source: SlabProcess, engine: SocketEngine
) -> None:
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    source.kill()
    assert final_state(read(peer, local)) is TicketState.FAILED
    ticket = read(peer, local)
    assert (ticket.poll(), ticket.fault) == (TicketState.FAILED, TransferFault.PEER_FAILED)
    assert local.num_pins == 0


def test_a_stopped_source_is_given_up_within_the_first_contact_limit(
    source: SlabProcess, engine: SocketEngine
) -> None:
    source.stop()
    start_s = time.monotonic()
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handle, first_contact_timeout_s=0.5)
    assert caught.value.fault is TransferFault.FIRST_CONTACT_TIMEOUT
    assert 0.4 < time.monotonic() - start_s < 2.0


def test_only_who_knows_the_token_is_served(source: SlabProcess, engine: SocketEngine) -> None:
    for token in ("wrong", None):
        stranger = SocketEngine(EngineSettings(token=token))
        with pytest.raises(TransferError, match="token") as caught:
            stranger.connect(source.handle, first_contact_timeout_s=CONTACT_S)
        assert caught.value.fault is TransferFault.UNAUTHORIZED
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    assert final_state(read(peer, local)) is TicketState.DONE


@pytest.mark.parametrize(
    "changed",
    [
        {"base": 1},
        {"base": -1},
        {"base": 1 << 64},
        {"size_bytes": SIZE + CHUNK},
        {"size_bytes": 1 << 64},
    ],
)
def test_a_handle_from_before_a_restart_reaches_nothing(
    source: SlabProcess, engine: SocketEngine, changed: dict[str, int]
) -> None:
    stale = msgspec.structs.replace(source.handle, **changed)
    with pytest.raises(TransferError, match=r"no such slab|no slab has") as caught:
        engine.connect(stale, first_contact_timeout_s=CONTACT_S)
    assert caught.value.fault is TransferFault.UNREACHABLE


def test_what_was_unregistered_is_refused_and_the_connection_lives_on(
    engine: SocketEngine,
) -> None:
    offered, local = filled(HostSlab(8 * MIB), 3), HostSlab(8 * MIB)
    [handle] = engine.register([offered], writable=True)
    peer = engine.connect(handle, first_contact_timeout_s=CONTACT_S)
    assert final_state(read(peer, local)) is TicketState.DONE
    engine.unregister([offered])
    write = peer.submit(Operation.WRITE, local, local_offset=0, remote_offset=0, size_bytes=8 * MIB)
    assert (final_state(write), write.fault) == (TicketState.FAILED, TransferFault.PEER_FAILED)
    refused = read(peer, local)
    assert (final_state(refused), refused.fault) == (TicketState.FAILED, TransferFault.PEER_FAILED)
    assert digest(offered) == digest(filled(HostSlab(8 * MIB), 3)), "nothing was written"
    assert offered.num_pins == 0
    with pytest.raises(TransferError):
        engine.connect(handle, first_contact_timeout_s=CONTACT_S)


def test_a_slab_that_is_not_writable_is_read_and_keeps_its_bytes() -> None:
    settings = replace(SETTINGS, lanes=1)
    with slab_process(Backend.SOCKET, settings, 8 * MIB, writable=False) as source:
        engine, local = SocketEngine(settings), HostSlab(8 * MIB)
        assert not source.handle.is_writable
        claimed = msgspec.structs.replace(source.handle, is_writable=True)
        peer = engine.connect(claimed, first_contact_timeout_s=CONTACT_S)
        write = peer.submit(
            Operation.WRITE, local, local_offset=0, remote_offset=0, size_bytes=8 * MIB
        )
        assert (final_state(write), write.fault) == (TicketState.FAILED, TransferFault.INCOMPATIBLE)
        assert source.digest_by_now() == source.digest
        pull(peer, spans(local), clock=WallClock(), on_done=lambda span, digest: None)
        assert digest(local) == source.digest, "the one connection lives on"
        peer.close()
        engine.close()


def test_a_closed_peer_ends_what_is_under_way_and_takes_no_more(
    source: SlabProcess, engine: SocketEngine
) -> None:
    before = set(threading.enumerate())
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=CONTACT_S)
    tickets = [read(peer, local, offset=offset) for offset in range(0, SIZE, CHUNK)]
    peer.close()
    late = read(peer, local)
    assert (late.poll(), late.fault) == (TicketState.FAILED, TransferFault.ABORTED)
    assert {final_state(ticket) for ticket in tickets} == {TicketState.DONE}
    assert digest(local) == source.digest
    wait_until(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_client_that_dies_or_hangs_lets_go_of_the_slab(engine: SocketEngine, how: int) -> None:
    offered = filled(HostSlab(SIZE), 4)
    [handle] = engine.register([offered], writable=True)
    with writing_process(Backend.SOCKET, SETTINGS, handle, CHUNK) as pid:
        wait_until(lambda: offered.num_pins > 0, timeout_s=30.0)
        os.kill(pid, how)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        wait_until(lambda: stays_unpinned(offered))


def stays_unpinned(slab: Slab) -> bool:
    """Whether no transfer begins for a while: what a dead client had sent is served first."""
    end_s = time.monotonic() + 0.2
    while slab.num_pins == 0:
        if time.monotonic() > end_s:
            return True
        time.sleep(0.005)
    return False


def test_device_memory_goes_through_a_stage_on_both_sides(
    engine: SocketEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnDevice(TensorSlab):
        """Host memory that claims to be on a device the CPU does not address."""

        device = "cuda:0"

    stages: list[Slab] = []

    def new_stage(slab: Slab) -> memoryview:
        stages.append(slab)
        return memoryview(bytearray(STAGE_BYTES))

    size_bytes = 2 * STAGE_BYTES + 7
    waited: list[str] = []
    monkeypatch.setattr("hfx_transfer.engine.socket.flow.new_stage", new_stage)
    monkeypatch.setattr("hfx_transfer.engine.socket.engine.synchronize", waited.append)
    there = torch.frombuffer(bytearray(pattern(size_bytes, 8)), dtype=torch.uint8)
    here = torch.zeros(size_bytes, dtype=torch.uint8)
    offered, local = OnDevice(there), OnDevice(here)
    [handle] = engine.register([offered], writable=True)
    assert waited == ["cuda:0"], "what the device has queued is awaited before it is offered"
    peer = engine.connect(handle, first_contact_timeout_s=CONTACT_S)
    ticket = peer.submit(
        Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=size_bytes
    )
    assert final_state(ticket) is TicketState.DONE
    assert torch.equal(here, there)
    assert set(stages) == {offered, local}
    peer.close()


def test_a_driver_that_raises_leaves_no_ticket_running(
    engine: SocketEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, local = filled(HostSlab(CHUNK), 1), HostSlab(CHUNK)
    [handle] = engine.register([offered], writable=True)
    peer = engine.connect(handle, first_contact_timeout_s=CONTACT_S)
    raised: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def fail(*args: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("hfx_transfer.engine.socket.peer.receive_digested", fail)
    tickets = [read(peer, local) for _ in range(3)]
    assert {final_state(ticket) for ticket in tickets} == {TicketState.FAILED}
    assert local.num_pins == 0
    wait_until(lambda: bool(raised))
    assert "illegal memory access" in str(raised[0].exc_value)
