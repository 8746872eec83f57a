import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest
import xxhash
from hfx_transfer.engine.mooncake.backend import MooncakeEngine
from hfx_transfer.engine.protocol import (
    Backend,
    Operation,
    Peer,
    RegionHandle,
    Ticket,
    TicketState,
)
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.host import HostSlab
from support.loopback import in_loopback
from support.mooncake_peer import PROGRESS_TIMEOUT_S, MooncakePeerProcess, pattern

from hfx_sgl.errors import TransferError, TransferFault

MIB = 1 << 20
CHUNK_BYTES = 48 * MIB
NUM_CHUNKS = 6
SETTINGS = EngineSettings(progress_timeout_s=PROGRESS_TIMEOUT_S)
NOISE_S = 6.0
"""How much longer than they should things may take on a machine that does other things too."""


def submit_all(peer: Peer, local: HostSlab) -> list[Ticket]:
    return [
        peer.submit(
            Operation.READ,
            local,
            local_offset=index * CHUNK_BYTES,
            remote_offset=0,
            size_bytes=CHUNK_BYTES,
        )
        for index in range(NUM_CHUNKS)
    ]


def wait_for(condition: Callable[[], bool], limit_s: float) -> float:
    began_at_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at_s < limit_s
        time.sleep(0.001)
    return time.monotonic() - began_at_s


def all_final(tickets: list[Ticket]) -> Callable[[], bool]:
    return lambda: all(ticket.poll() is not TicketState.RUNNING for ticket in tickets)


def read_all(engine: MooncakeEngine, source: MooncakePeerProcess) -> None:
    """Read a whole slab, as proof that all is well."""
    handle = source.handles[0]
    local = HostSlab(handle.size_bytes)
    peer = engine.connect(handle, first_contact_timeout_s=5)
    ticket = peer.submit(
        Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=local.size_bytes
    )
    wait_for(all_final([ticket]), 20)
    assert ticket.fault is None
    assert bytes(local.view()) == pattern(local.size_bytes, 0)
    peer.close()


@in_loopback
def test_peer_killed_in_the_middle() -> None:
    victim, other = MooncakePeerProcess(CHUNK_BYTES), MooncakePeerProcess(MIB)
    engine, local = MooncakeEngine(SETTINGS), HostSlab(NUM_CHUNKS * CHUNK_BYTES)
    peer = engine.connect(victim.handles[0], first_contact_timeout_s=5)
    tickets = submit_all(peer, local)
    wait_for(lambda: any(ticket.poll() is TicketState.DONE for ticket in tickets), 20)
    victim.kill()
    assert wait_for(all_final(tickets), 20) < PROGRESS_TIMEOUT_S + NOISE_S
    states = [ticket.poll() for ticket in tickets]
    assert TicketState.FAILED in states
    faults = {ticket.fault for ticket in tickets if ticket.poll() is TicketState.FAILED}
    assert faults <= {TransferFault.PEER_FAILED, TransferFault.STALLED}
    assert local.num_pins == 0
    peer.close()
    with pytest.raises(TransferError) as caught:
        engine.connect(victim.handles[0], first_contact_timeout_s=5)
    assert caught.value.fault is TransferFault.UNREACHABLE
    read_all(engine, other)


@in_loopback
def test_peer_stopped_in_the_middle_and_no_byte_lands_later() -> None:
    victim = MooncakePeerProcess(CHUNK_BYTES)
    engine, local = MooncakeEngine(SETTINGS), HostSlab(NUM_CHUNKS * CHUNK_BYTES, prefault=True)
    peer = engine.connect(victim.handles[0], first_contact_timeout_s=5)
    tickets = submit_all(peer, local)
    wait_for(lambda: any(ticket.poll() is TicketState.DONE for ticket in tickets), 20)
    victim.signal(signal.SIGSTOP)
    # Six transfers on four lanes: those that queued get a progress timeout of their own.
    lasted_s = wait_for(all_final(tickets), 30)
    assert PROGRESS_TIMEOUT_S / 2 < lasted_s < 2 * PROGRESS_TIMEOUT_S + NOISE_S
    assert TransferFault.STALLED in {ticket.fault for ticket in tickets}
    assert local.num_pins == 0
    # From here on the memory may serve another purpose.
    view = local.view()
    view[:] = bytes(local.size_bytes)
    victim.signal(signal.SIGCONT)
    time.sleep(1.5)
    assert xxhash.xxh3_64_hexdigest(view) == xxhash.xxh3_64_hexdigest(bytes(local.size_bytes))
    peer.close()
    # It came back: a link that was not involved reads from it.
    read_all(engine, victim)


@in_loopback
def test_pins_outlive_the_owner_of_the_memory() -> None:
    victim = MooncakePeerProcess(CHUNK_BYTES)
    engine, local = MooncakeEngine(SETTINGS), HostSlab(NUM_CHUNKS * CHUNK_BYTES)
    peer = engine.connect(victim.handles[0], first_contact_timeout_s=5)
    victim.signal(signal.SIGSTOP)
    tickets = submit_all(peer, local)
    peer.close()
    local.close()
    assert local.num_pins == NUM_CHUNKS
    assert len(local.view()) == local.size_bytes
    wait_for(all_final(tickets), 30)
    assert {ticket.fault for ticket in tickets} == {TransferFault.STALLED}
    with pytest.raises(ValueError, match="closed"):
        local.view()


@in_loopback
def test_a_silent_peer_keeps_nobody_else_waiting() -> None:
    silent, healthy = MooncakePeerProcess(MIB), MooncakePeerProcess(MIB)
    engine = MooncakeEngine(SETTINGS)
    silent.signal(signal.SIGSTOP)
    errors: list[TransferError] = []

    def reach_silent() -> None:
        try:
            engine.connect(silent.handles[0], first_contact_timeout_s=3)
        except TransferError as error:
            errors.append(error)

    began_at_s = time.monotonic()
    threads = [threading.Thread(target=reach_silent) for _ in range(3)]
    for thread in threads:
        thread.start()
    num_reads = 0
    while any(thread.is_alive() for thread in threads):
        read_all(engine, healthy)
        num_reads += 1
    assert 3 <= time.monotonic() - began_at_s < 3 + NOISE_S
    assert num_reads >= 2
    faults = [error.fault for error in errors]
    assert faults == [TransferFault.FIRST_CONTACT_TIMEOUT] * 3
    assert engine.probe(silent.handles[0].session, timeout_s=0.2) is None
    silent.signal(signal.SIGCONT)
    read_all(engine, silent)


@in_loopback
def test_nobody_listens() -> None:
    engine = MooncakeEngine(SETTINGS)
    for session in ("127.0.0.1:9", "127.0.0.1:99999", "no-such-host:15000", "127.0.0.1", ""):
        began_at_s = time.monotonic()
        with pytest.raises(TransferError, match="nobody answers") as caught:
            engine.connect(handle_at(session), first_contact_timeout_s=4)
        assert caught.value.fault is TransferFault.UNREACHABLE
        assert time.monotonic() - began_at_s < NOISE_S
    assert engine.num_links == 1


@in_loopback
def test_something_else_listens() -> None:
    engine = MooncakeEngine(SETTINGS)
    for greeting in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\xff" * 64):
        with serving(greeting) as session:
            with pytest.raises(TransferError) as caught:
                engine.connect(handle_at(session), first_contact_timeout_s=4)
            assert caught.value.fault is TransferFault.PROTOCOL


@in_loopback
def test_garbage_on_both_ports_of_a_peer() -> None:
    source = MooncakePeerProcess(MIB)
    assert len(source.ports) == 2
    engine = MooncakeEngine(SETTINGS)
    for port in source.ports:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" * 100000, b"\0" * 9):
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                try:
                    connection.sendall(garbage)
                except ConnectionError:
                    continue
    read_all(engine, source)
    assert source.digest() == xxhash.xxh3_64_hexdigest(pattern(MIB, 0))


@in_loopback
def test_each_failure_is_followed_by_a_good_contact() -> None:
    # Right after failures the library fails good transfers too, on the engine that had them.
    source = MooncakePeerProcess(MIB, MIB)
    engine, local = MooncakeEngine(SETTINGS), HostSlab(MIB)
    peers = [engine.connect(source.handles[1], first_contact_timeout_s=5) for _ in range(6)]
    source.ask("unregister", 1)
    for peer in peers:
        ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=MIB)
        wait_for(all_final([ticket]), 20)
        assert ticket.fault is TransferFault.PEER_FAILED
        peer.close()
        read_all(engine, source)
    assert local.num_pins == 0


def handle_at(session: str) -> RegionHandle:
    return RegionHandle(
        backend=Backend.MOONCAKE, session=session, base=4096, size_bytes=4096, is_writable=True
    )


class serving:
    """A server on loopback that says one thing to everybody and hangs up."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        threading.Thread(target=self._serve, daemon=True).start()
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(self._greeting)
                except ConnectionError:
                    continue
