"""The socket backend against those who speak something else, or too little."""

import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, TicketState
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.engine import SocketEngine
from hfx_transfer.memory.host import HostSlab
from support.slabs import MIB, filled, pattern

from hfx_sgl.errors import TransferError, TransferFault

SETTINGS = EngineSettings(progress_timeout_s=0.5, first_contact_timeout_s=0.5, lanes=1)
SIZE = 4 * MIB


@pytest.fixture
def engine() -> Iterator[SocketEngine]:
    engine = SocketEngine(SETTINGS)
    yield engine
    engine.close()


@pytest.fixture
def offered(engine: SocketEngine) -> RegionHandle:
    [handle] = engine.register([filled(HostSlab(SIZE), 1)], writable=True)
    return handle


def call(handle: RegionHandle) -> socket.socket:
    host, _, port = handle.session.rpartition(":")
    connected = socket.create_connection((host, int(port)), timeout=5.0)
    return connected


def greeted(handle: RegionHandle) -> socket.socket:
    connected = call(handle)
    hello = frames.Hello(
        token_digest=frames.token_digest(None), slab_id=handle.base, size_bytes=SIZE
    )
    connected.sendall(frames.encode_hello(hello))
    welcome = receive(connected, frames.WELCOME_BYTES)
    assert frames.decode_welcome(welcome) is frames.Status.OK
    return connected


def receive(connected: socket.socket, size_bytes: int) -> bytes:
    received = b""
    while len(received) < size_bytes:
        part = connected.recv(size_bytes - len(received))
        assert part, f"the connection ended after {received!r}"
        received += part
    return received


def is_closed_by_the_other(connected: socket.socket) -> bool:
    try:
        return connected.recv(1) == b""
    except ConnectionResetError:
        return True


def assert_still_serves(engine: SocketEngine, handle: RegionHandle) -> None:
    local = HostSlab(SIZE)
    peer = engine.connect(handle, first_contact_timeout_s=5.0)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=SIZE)
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    assert ticket.poll() is TicketState.DONE
    assert local.view() == pattern(SIZE, 1)
    peer.close()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: something longer\r\n\r\n", bytes(4096)],
)
def test_garbage_is_hung_up_on(engine: SocketEngine, offered: RegionHandle, garbage: bytes) -> None:
    with call(offered) as connected:
        connected.sendall(garbage)
        assert is_closed_by_the_other(connected)
    assert_still_serves(engine, offered)


def test_garbage_after_a_good_hello_is_hung_up_on(
    engine: SocketEngine, offered: RegionHandle
) -> None:
    with greeted(offered) as connected:
        connected.sendall(b"\xff" * frames.REQUEST_BYTES)
        assert is_closed_by_the_other(connected)
    assert_still_serves(engine, offered)


@pytest.mark.parametrize("said", [b"", b"hfx-socket-1"])
def test_who_does_not_finish_the_hello_is_hung_up_on_in_time(
    engine: SocketEngine, offered: RegionHandle, said: bytes
) -> None:
    start_s = time.monotonic()
    with call(offered) as connected:
        connected.sendall(said)
        assert is_closed_by_the_other(connected)
    assert 0.3 < time.monotonic() - start_s < 3.0
    assert_still_serves(engine, offered)


def test_a_hello_in_drops_is_hung_up_on_in_time(
    engine: SocketEngine, offered: RegionHandle
) -> None:
    start_s = time.monotonic()
    with call(offered) as connected:
        try:
            for _ in range(40):
                connected.sendall(b"h")
                time.sleep(0.1)
        except ConnectionError:
            pass
    assert time.monotonic() - start_s < 3.0
    assert_still_serves(engine, offered)


def test_a_crowd_of_silent_clients_keeps_nobody_out_for_long(
    engine: SocketEngine, offered: RegionHandle
) -> None:
    crowd = [call(offered) for _ in range(300)]
    time.sleep(SETTINGS.first_contact_timeout_s + 0.5)
    assert_still_serves(engine, offered)
    for connected in crowd:
        connected.close()


@pytest.mark.parametrize(
    ("offset", "size_bytes"), [(SIZE, 1), (0, SIZE + 1), (1, SIZE), (2**64 - 1, 2**64 - 1)]
)
def test_a_span_outside_of_the_slab_is_refused_and_the_connection_lives_on(
    offered: RegionHandle, offset: int, size_bytes: int
) -> None:
    request = frames.Request(operation=Operation.READ, offset=offset, size_bytes=size_bytes)
    good = frames.Request(operation=Operation.READ, offset=SIZE - 5, size_bytes=5)
    with greeted(offered) as connected:
        connected.sendall(frames.encode_request(request))
        reply = receive(connected, frames.REPLY_BYTES)
        assert frames.decode_reply(reply, size_bytes) is frames.Status.OUT_OF_BOUNDS
        connected.sendall(frames.encode_request(good))
        reply = receive(connected, frames.REPLY_BYTES + 5)
        assert reply[frames.REPLY_BYTES :] == pattern(SIZE, 1)[-5:]


def test_bytes_written_outside_of_the_slab_go_nowhere(
    engine: SocketEngine, offered: RegionHandle
) -> None:
    request = frames.Request(operation=Operation.WRITE, offset=SIZE - 1, size_bytes=1000)
    with greeted(offered) as connected:
        connected.sendall(frames.encode_request(request) + b"x" * 1000)
        reply = receive(connected, frames.REPLY_BYTES)
        assert frames.decode_reply(reply, 1000) is frames.Status.OUT_OF_BOUNDS
    assert_still_serves(engine, offered)


class FakeSource:
    """Listens and lets each function talk to one who connects."""

    def __init__(self, *talks: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10.0)
        self._threads = [threading.Thread(target=self._run, args=(talk,)) for talk in talks]
        for thread in self._threads:
            thread.start()

    @property
    def handle(self) -> RegionHandle:
        port = self._listener.getsockname()[1]
        session = f"127.0.0.1:{port}"
        return RegionHandle(
            backend=Backend.SOCKET, session=session, base=1, size_bytes=SIZE, is_writable=True
        )

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10.0)
            assert not thread.is_alive()
        self._listener.close()

    def _run(self, talk: Callable[[socket.socket], None]) -> None:
        connected, _ = self._listener.accept()
        with connected:
            connected.settimeout(10.0)
            talk(connected)


def welcome(connected: socket.socket) -> None:
    receive(connected, frames.HELLO_BYTES)
    connected.sendall(frames.encode_welcome(frames.Status.OK))


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", TransferFault.PROTOCOL),
        (frames.encode_welcome(frames.Status.OUT_OF_BOUNDS), TransferFault.PROTOCOL),
        (b"", TransferFault.UNREACHABLE),
    ],
)
def test_a_port_of_something_else_is_told_apart(
    engine: SocketEngine, answer: bytes, fault: TransferFault
) -> None:
    def talk(connected: socket.socket) -> None:
        receive(connected, frames.HELLO_BYTES)
        connected.sendall(answer)

    source = FakeSource(talk)
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handle, first_contact_timeout_s=5.0)
    assert caught.value.fault is fault
    source.join()


@pytest.mark.parametrize("said", [b"", frames.encode_welcome(frames.Status.OK)[:-1]])
def test_a_port_that_accepts_and_says_too_little_times_out(
    engine: SocketEngine, said: bytes
) -> None:
    def talk(connected: socket.socket) -> None:
        connected.sendall(said)
        _receive_until_closed(connected)

    source = FakeSource(talk)
    with pytest.raises(TransferError) as caught:
        engine.connect(source.handle, first_contact_timeout_s=0.3)
    assert caught.value.fault is TransferFault.FIRST_CONTACT_TIMEOUT
    source.join()


def test_a_full_backlog_is_unreachable_within_the_limit(engine: SocketEngine) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        handle = RegionHandle(
            backend=Backend.SOCKET,
            session=f"127.0.0.1:{port}",
            base=1,
            size_bytes=SIZE,
            is_writable=True,
        )
        start_s = time.monotonic()
        with pytest.raises(TransferError) as caught:
            engine.connect(handle, first_contact_timeout_s=0.4)
        assert caught.value.fault is TransferFault.UNREACHABLE
        assert time.monotonic() - start_s < 2.0
        for one in waiting:
            one.close()


@pytest.mark.parametrize("session", ["127.0.0.1:1", "no such host:80", "127.0.0.1:", "", ":", "x"])
def test_an_address_of_nobody_is_unreachable(engine: SocketEngine, session: str) -> None:
    handle = RegionHandle(
        backend=Backend.SOCKET, session=session, base=1, size_bytes=SIZE, is_writable=True
    )
    with pytest.raises(TransferError) as caught:
        engine.connect(handle, first_contact_timeout_s=2.0)
    assert caught.value.fault is TransferFault.UNREACHABLE


def test_bytes_that_come_after_a_stall_land_nowhere(engine: SocketEngine) -> None:
    failed = threading.Event()
    errors: list[BaseException] = []

    def talk(connected: socket.socket) -> None:
        welcome(connected)
        receive(connected, frames.REQUEST_BYTES)
        connected.sendall(frames.encode_reply(frames.Status.OK, SIZE) + b"\x01" * (SIZE // 2))
        failed.wait(10.0)
        try:
            while True:
                connected.sendall(b"\x02" * 65536)
        except ConnectionError as error:
            errors.append(error)

    source = FakeSource(talk)
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=5.0)
    start_s = time.monotonic()
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=SIZE)
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    took_s = time.monotonic() - start_s
    failed.set()
    source.join()
    assert (ticket.poll(), ticket.fault) == (TicketState.FAILED, TransferFault.STALLED)
    assert 0.4 < took_s < 2.0
    assert errors, "the connection was closed under the source"
    assert local.num_pins == 0
    assert bytes(local.view()) == b"\x01" * (SIZE // 2) + bytes(SIZE // 2)


def test_a_connection_that_stalls_takes_one_that_crawls_with_it() -> None:
    def stall(connected: socket.socket) -> None:
        welcome(connected)
        _receive_until_closed(connected)

    def crawl(connected: socket.socket) -> None:
        welcome(connected)
        receive(connected, frames.REQUEST_BYTES)
        try:
            connected.sendall(frames.encode_reply(frames.Status.OK, SIZE))
            while True:
                connected.sendall(b"\x01")
                time.sleep(0.05)
        except ConnectionError:
            return

    source = FakeSource(stall, crawl)
    engine = SocketEngine(dataclasses.replace(SETTINGS, lanes=2))
    local = HostSlab(2 * SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=5.0)
    start_s = time.monotonic()
    tickets = [
        peer.submit(Operation.READ, local, local_offset=at, remote_offset=0, size_bytes=SIZE)
        for at in (0, SIZE)
    ]
    while any(ticket.poll() is TicketState.RUNNING for ticket in tickets):
        assert time.monotonic() - start_s < 5.0
        time.sleep(0.001)
    assert [ticket.fault for ticket in tickets] == [TransferFault.STALLED] * 2
    assert local.num_pins == 0
    source.join()


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (frames.encode_reply(frames.Status.OK, 1), TransferFault.PROTOCOL),
        (struct.pack(">BQ", 77, SIZE).ljust(frames.REPLY_BYTES), TransferFault.PROTOCOL),
        (b"", TransferFault.PEER_FAILED),
        (frames.encode_reply(frames.Status.UNKNOWN_SLAB, SIZE), TransferFault.PEER_FAILED),
    ],
)
def test_a_strange_reply_fails_the_transfer(
    engine: SocketEngine, reply: bytes, fault: TransferFault
) -> None:
    def talk(connected: socket.socket) -> None:
        welcome(connected)
        receive(connected, frames.REQUEST_BYTES)
        connected.sendall(reply)

    source = FakeSource(talk)
    local = HostSlab(SIZE)
    peer = engine.connect(source.handle, first_contact_timeout_s=5.0)
    ticket = peer.submit(Operation.READ, local, local_offset=0, remote_offset=0, size_bytes=SIZE)
    while ticket.poll() is TicketState.RUNNING:
        time.sleep(0.001)
    assert (ticket.poll(), ticket.fault) == (TicketState.FAILED, fault)
    assert not any(local.view()[::1024])
    peer.close()
    source.join()


def _receive_until_closed(connected: socket.socket) -> None:
    try:
        while connected.recv(65536):
            pass
    except ConnectionError:
        return
