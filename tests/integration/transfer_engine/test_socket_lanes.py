"""What the asking side sends on its connections, and when: the other ends are held by the test."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import xxhash
from hfx_transfer.engine.protocol import Operation, Ticket, TicketState
from hfx_transfer.engine.socket import frames
from hfx_transfer.engine.socket.peer import SocketPeer
from hfx_transfer.engine.socket.wire import Wire
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.slab import Slab
from support.slabs import MIB, pattern

from hfx_sgl.clock import WallClock
from hfx_sgl.errors import TransferFault

SIZE = 4096
QUIET_S = 0.2
"""For so long nothing is sent that should not be."""

Connect = Callable[[int], tuple[SocketPeer, list[socket.socket]]]


@pytest.fixture
def local() -> HostSlab:
    return HostSlab(4 * SIZE)


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def connect(num_lanes: int) -> tuple[SocketPeer, list[socket.socket]]:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = listener.getsockname()
                wires, others = [], []
                for _ in range(num_lanes):
                    ours = socket.create_connection(address)
                    wires.append(Wire(ours, WallClock(), progress_timeout_s=20.0))
                    others.append(stack.enter_context(listener.accept()[0]))
                    others[-1].settimeout(10.0)
            peer = SocketPeer(wires, remote_size_bytes=4 * SIZE)
            stack.callback(peer.close)
            return peer, others

        yield connect


def begin(peer: SocketPeer, operation: Operation, local: Slab, place: int) -> Ticket:
    offset = place * SIZE
    return peer.submit(operation, local, local_offset=offset, remote_offset=offset, size_bytes=SIZE)


def asked_place(other: socket.socket) -> int:
    request = frames.decode_request(other.recv(frames.REQUEST_BYTES, socket.MSG_WAITALL))
    return request.offset // SIZE


def answer(other: socket.socket, place: int) -> None:
    other.sendall(frames.encode_reply(frames.Status.OK, SIZE) + bytes([place + 1]) * SIZE)


def assert_nothing_is_asked(other: socket.socket) -> None:
    other.settimeout(QUIET_S)
    with pytest.raises(TimeoutError):
        other.recv(1)
    other.settimeout(10.0)


def final_state(ticket: Ticket) -> TicketState:
    end_s = time.monotonic() + 10.0
    while ticket.poll() is TicketState.RUNNING and time.monotonic() < end_s:
        time.sleep(0.001)
    return ticket.poll()


def test_one_read_is_asked_for_ahead(connect: Connect, local: HostSlab) -> None:
    peer, (other,) = connect(1)
    # The first may be asked for before there is a second.
    first = begin(peer, Operation.READ, local, 0)
    assert asked_place(other) == 0
    rest = [begin(peer, Operation.READ, local, place) for place in (1, 2, 3)]
    answer(other, 0)
    assert final_state(first) is TicketState.DONE
    assert [asked_place(other), asked_place(other)] == [1, 2]
    assert_nothing_is_asked(other)
    answer(other, 1)
    assert asked_place(other) == 3
    answer(other, 2)
    answer(other, 3)
    assert {final_state(ticket) for ticket in rest} == {TicketState.DONE}
    assert [local.view()[place * SIZE] for place in range(4)] == [1, 2, 3, 4]


def test_a_connection_that_is_free_is_asked_rather_than_a_busy_one(
    connect: Connect, local: HostSlab
) -> None:
    peer, others = connect(2)
    for place in range(2):
        begin(peer, Operation.READ, local, place)
    assert {asked_place(other) for other in others} == {0, 1}


def test_nothing_is_asked_for_around_a_write(connect: Connect, local: HostSlab) -> None:
    peer, (other,) = connect(1)
    operations = (Operation.READ, Operation.WRITE, Operation.READ)
    tickets = [begin(peer, each, local, place) for place, each in enumerate(operations)]
    assert asked_place(other) == 0
    assert_nothing_is_asked(other)
    answer(other, 0)
    assert asked_place(other) == 1
    assert len(other.recv(SIZE, socket.MSG_WAITALL)) == SIZE
    assert_nothing_is_asked(other)
    other.sendall(frames.encode_reply(frames.Status.OK, SIZE))
    assert asked_place(other) == 2
    answer(other, 2)
    assert {final_state(ticket) for ticket in tickets} == {TicketState.DONE}


def test_both_fail_when_the_connection_ends(connect: Connect, local: HostSlab) -> None:
    peer, (other,) = connect(1)
    tickets = [begin(peer, Operation.READ, local, place) for place in range(3)]
    assert asked_place(other) == 0
    other.close()
    assert {final_state(ticket) for ticket in tickets} == {TicketState.FAILED}
    assert {ticket.fault for ticket in tickets} == {TransferFault.PEER_FAILED}
    assert local.num_pins == 0
    late = begin(peer, Operation.READ, local, 3)
    assert (late.poll(), late.fault) == (TicketState.FAILED, TransferFault.PEER_FAILED)


def test_a_refusal_of_one_is_none_of_the_next(connect: Connect, local: HostSlab) -> None:
    peer, (other,) = connect(1)
    tickets = [begin(peer, Operation.READ, local, place) for place in range(2)]
    other.sendall(frames.encode_reply(frames.Status.OUT_OF_BOUNDS, SIZE))
    answer(other, 1)
    assert final_state(tickets[0]) is TicketState.FAILED
    assert final_state(tickets[1]) is TicketState.DONE


@pytest.mark.parametrize("size_bytes", [1, 600_000, MIB, MIB + 1, 9 * MIB + 3])
def test_a_read_is_digested_as_it_comes(size_bytes: int) -> None:
    here = HostSlab(size_bytes)
    sent = pattern(size_bytes, 5)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ours = socket.create_connection(listener.getsockname())
        wire = Wire(ours, WallClock(), progress_timeout_s=20.0)
        # Who waits for more than there is to come does so for ever, without looks at the clock.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
        peer = SocketPeer([wire], size_bytes)
        stack.callback(peer.close)
        other = stack.enter_context(listener.accept()[0])
        ticket = peer.submit(
            Operation.READ, here, local_offset=0, remote_offset=0, size_bytes=size_bytes
        )
        other.recv(frames.REQUEST_BYTES, socket.MSG_WAITALL)
        other.sendall(frames.encode_reply(frames.Status.OK, size_bytes))
        # In uneven pieces, each of which is there before the next is sent.
        for begin in range(0, size_bytes, 333_333):
            other.sendall(sent[begin : begin + 333_333])
            time.sleep(0.01)
        assert final_state(ticket) is TicketState.DONE
    assert here.view() == sent
    assert ticket.digest == xxhash.xxh3_128_hexdigest(sent)


def test_closed_it_carries_out_what_was_begun(connect: Connect, local: HostSlab) -> None:
    peer, (other,) = connect(1)
    tickets = [begin(peer, Operation.READ, local, place) for place in range(3)]
    peer.close()
    late = begin(peer, Operation.READ, local, 3)
    assert (late.poll(), late.fault) == (TicketState.FAILED, TransferFault.ABORTED)
    for place in range(3):
        assert asked_place(other) == place
        answer(other, place)
    assert {final_state(ticket) for ticket in tickets} == {TicketState.DONE}
    assert other.recv(1) == b""
