import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import xxhash
from hfx_transfer.engine.mooncake.backend import MooncakeEngine
from hfx_transfer.engine.protocol import Backend, Operation, Peer, Ticket, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.side.client import SideEngine, SideLimits
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab
from support.loopback import in_loopback
from support.mooncake_peer import PROGRESS_TIMEOUT_S, MooncakePeerProcess, pattern
from support.side_backends import CRASH

from hfx_sgl.errors import ConfigError, TransferError, TransferFault

MIB = 1 << 20
SIZE_BYTES = 16 * MIB
SETTINGS = EngineSettings(progress_timeout_s=PROGRESS_TIMEOUT_S)
# So short a pause needs no waiting, and one call that comes too early may follow at once.
LIMITS = SideLimits(silence_s=2.5, first_pause_s=0.01, longest_pause_s=0.01)
CRASHING = "support.side_backends:CrashingEngine"
NOISE_S = 6.0


def wait_for(condition: Callable[[], bool], limit_s: float = 20) -> float:
    began_at_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at_s < limit_s
        time.sleep(0.001)
    return time.monotonic() - began_at_s


def submit(
    peer: Peer, local: SharedSlab, operation: Operation = Operation.READ, size_bytes: int = 0
) -> Ticket:
    size_bytes = size_bytes or local.size_bytes
    return peer.submit(operation, local, local_offset=0, remote_offset=0, size_bytes=size_bytes)


def fault_of(ticket: Ticket) -> TransferFault | None:
    wait_for(lambda: ticket.poll() is not TicketState.RUNNING)
    return ticket.fault


def read_all(engine: SideEngine, source: MooncakePeerProcess) -> None:
    local = SharedSlab(source.handles[0].size_bytes)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    assert fault_of(submit(peer, local)) is None
    assert bytes(local.view()) == pattern(local.size_bytes, 0)
    peer.close()
    local.close()


@in_loopback
def test_bytes_move_through_the_side_process() -> None:
    source = MooncakePeerProcess(SIZE_BYTES)
    engine = SideEngine(SETTINGS, limits=LIMITS)
    assert engine.backend is Backend.MOONCAKE
    assert engine.transport == "tcp"
    read_all(engine, source)
    local = SharedSlab(SIZE_BYTES)
    local.view()[:] = pattern(SIZE_BYTES, 5)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    assert fault_of(submit(peer, local, Operation.WRITE)) is None
    assert source.digest() == xxhash.xxh3_64_hexdigest(pattern(SIZE_BYTES, 5))
    assert local.num_pins == 0

    (handle,) = engine.register([local], writable=True)
    reader, copy = MooncakeEngine(SETTINGS), HostSlab(SIZE_BYTES)
    peer_of_ours = reader.connect(handle, first_contact_timeout_s=5)
    ticket = peer_of_ours.submit(
        Operation.READ, copy, local_offset=0, remote_offset=0, size_bytes=SIZE_BYTES
    )
    assert fault_of(ticket) is None
    assert bytes(copy.view()) == pattern(SIZE_BYTES, 5)
    engine.unregister([local])
    with pytest.raises(TransferError):
        reader.connect(handle, first_contact_timeout_s=5)
    (handle,) = engine.register([local], writable=False)
    assert not handle.is_writable
    refused = reader.connect(handle, first_contact_timeout_s=5).submit(
        Operation.WRITE, copy, local_offset=0, remote_offset=0, size_bytes=SIZE_BYTES
    )
    assert fault_of(refused) is TransferFault.INCOMPATIBLE

    latency_s = engine.probe(source.handles[0].session, timeout_s=5)
    assert latency_s is not None
    assert 0 < latency_s < 5
    assert engine.probe("127.0.0.1:9", timeout_s=5) is None
    pid = engine.pid
    assert pid is not None
    engine.close()
    assert not psutil.pid_exists(pid)


@in_loopback
def test_faults_of_the_backend_come_through() -> None:
    source = MooncakePeerProcess(SIZE_BYTES)
    engine = SideEngine(SETTINGS, limits=LIMITS)
    source.signal(signal.SIGSTOP)
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handles[0], first_contact_timeout_s=0.5)
    assert caught.value.fault is TransferFault.FIRST_CONTACT_TIMEOUT
    source.signal(signal.SIGCONT)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    source.kill()
    local = SharedSlab(SIZE_BYTES)
    assert fault_of(submit(peer, local)) is TransferFault.PEER_FAILED
    assert local.num_pins == 0
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handles[0], first_contact_timeout_s=5)
    assert caught.value.fault is TransferFault.UNREACHABLE
    private = HostSlab(MIB)
    with pytest.raises(TransferError, match="shared memory"):
        engine.register([private], writable=True)
    assert engine.num_starts == 1


@in_loopback
def test_a_crash_of_the_native_library() -> None:
    stopped, healthy = MooncakePeerProcess(SIZE_BYTES), MooncakePeerProcess(SIZE_BYTES)
    engine = SideEngine(SETTINGS, factory=CRASHING, limits=LIMITS)
    local = SharedSlab(SIZE_BYTES)
    peer = engine.connect(stopped.handles[0], first_contact_timeout_s=5)
    stopped.signal(signal.SIGSTOP)
    ticket = submit(peer, local)
    pid = engine.pid
    assert pid is not None
    with pytest.raises(TransferError, match="SIGSEGV") as caught:
        engine.probe(CRASH, timeout_s=5)
    assert caught.value.fault is TransferFault.PEER_FAILED
    assert ticket.poll() is TicketState.FAILED
    assert ticket.fault is TransferFault.PEER_FAILED
    assert not psutil.pid_exists(pid)
    assert local.num_pins == 0
    # What was reached before is lost, and the next call starts another process.
    assert fault_of(submit(peer, local)) is TransferFault.PEER_FAILED
    time.sleep(LIMITS.longest_pause_s)
    read_all(engine, healthy)
    assert engine.num_starts == 2


@in_loopback
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_side_process_that_ends_or_hangs(number: signal.Signals) -> None:
    source = MooncakePeerProcess(SIZE_BYTES)
    engine = SideEngine(SETTINGS, limits=LIMITS)
    local = SharedSlab(SIZE_BYTES)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    pid = engine.pid
    assert pid is not None
    source.signal(signal.SIGSTOP)
    tickets = [submit(peer, local, size_bytes=MIB) for _ in range(3)]
    os.kill(pid, number)
    began_at_s = time.monotonic()
    # Nobody reads commands any more, and nobody has to wait for that.
    tickets += [submit(peer, local, size_bytes=MIB) for _ in range(5000)]
    assert time.monotonic() - began_at_s < LIMITS.silence_s
    assert {fault_of(ticket) for ticket in tickets} <= {
        TransferFault.PEER_FAILED,
        TransferFault.STALLED,
    }
    assert tickets[0].fault is TransferFault.PEER_FAILED
    assert time.monotonic() - began_at_s < LIMITS.silence_s + NOISE_S
    assert not psutil.pid_exists(pid)
    wait_for(lambda: local.num_pins == 0)
    source.signal(signal.SIGCONT)
    time.sleep(LIMITS.longest_pause_s)
    read_all(engine, source)


@in_loopback
def test_no_byte_lands_after_the_side_process_was_killed() -> None:
    source = MooncakePeerProcess(96 * MIB)
    engine = SideEngine(SETTINGS, limits=LIMITS)
    local = SharedSlab(96 * MIB)
    peer = engine.connect(source.handles[0], first_contact_timeout_s=5)
    view = local.view()
    tickets = [submit(peer, local) for _ in range(4)]
    wait_for(lambda: view[MIB] != 0)
    pid = engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    faults = [fault_of(ticket) for ticket in tickets]
    view[:] = bytes(len(view))
    assert TransferFault.PEER_FAILED in faults
    time.sleep(1)
    assert xxhash.xxh3_64_hexdigest(view) == xxhash.xxh3_64_hexdigest(bytes(len(view)))


@in_loopback
def test_starts_are_spaced_out() -> None:
    limits = SideLimits(first_pause_s=30, longest_pause_s=30)
    engine = SideEngine(SETTINGS, limits=limits)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    wait_for(lambda: engine.pid is None)
    for _ in range(3):
        with pytest.raises(TransferError, match=r"started again in (2\d|30)") as caught:
            engine.probe("127.0.0.1:9", timeout_s=1)
        assert caught.value.fault is TransferFault.UNAVAILABLE
    assert engine.num_starts == 1


@in_loopback
def test_the_side_process_ends_with_its_parent() -> None:
    code = (
        "import sys, time\n"
        "from hfx_transfer.engine.settings import EngineSettings\n"
        "from hfx_transfer.engine.side.client import SideEngine\n"
        "print(SideEngine(EngineSettings()).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        # Frozen, so that it cannot notice by itself that the connection is closed.
        child.suspend()
        parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@in_loopback
def test_a_backend_that_cannot_start(tmp_path: Path) -> None:
    package = tmp_path / "mooncake"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "engine.py").write_text(
        "raise ImportError('libibverbs.so.1: cannot open shared object file')\n"
    )
    os.environ["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    with pytest.raises(TransferError, match="Debian package libibverbs1") as caught:
        SideEngine(SETTINGS, limits=LIMITS)
    assert caught.value.fault is TransferFault.UNAVAILABLE


@in_loopback
def test_settings_that_the_backend_does_not_accept() -> None:
    with pytest.raises(ConfigError, match="port: must be at most"):
        SideEngine(EngineSettings(port=32000), limits=LIMITS)
