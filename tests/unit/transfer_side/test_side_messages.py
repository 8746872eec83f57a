import socket
import threading

import pytest
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.engine.side import messages
from hfx_transfer.engine.side.messages import Command, Report, SlabName, Wire

from hfx_sgl.errors import TransferFault

HANDLE = RegionHandle(
    backend=Backend.MOONCAKE, session="host:1", base=1 << 47, size_bytes=1 << 40, is_writable=True
)


def make_wires() -> tuple[Wire, Wire]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Wire(ours, Report), Wire(theirs, Command | messages.Start)


@pytest.mark.parametrize(
    "message",
    [
        messages.Start(factory="a:b", settings=EngineSettings(token="secret", lanes=3)),
        messages.Register(call=1, slabs=[SlabName(name="hfx-1", size_bytes=5)], writable=True),
        messages.Unregister(call=2, slabs=[]),
        messages.Connect(call=3, peer=4, handle=HANDLE, first_contact_timeout_s=1.5),
        messages.Probe(call=5, session="host:1", timeout_s=2),
        messages.Submit(
            ticket=6,
            peer=4,
            operation=Operation.WRITE,
            slab=SlabName(name="hfx-1", size_bytes=5),
            local_offset=1,
            remote_offset=1 << 40,
            size_bytes=3,
        ),
        messages.ClosePeer(peer=4),
        messages.Ping(),
    ],
)
def test_commands(message: Command | messages.Start) -> None:
    ours, theirs = make_wires()
    ours.send(message)
    assert theirs.receive(5) == message
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "message",
    [
        messages.Started(backend=Backend.MOONCAKE, transport="tcp"),
        messages.NotStarted(message="no", fault=None),
        messages.Answer(call=1, handles=[HANDLE]),
        messages.Answer(call=1, latency_s=0.25),
        messages.Failure(call=1, message="no", fault=TransferFault.STALLED),
        messages.Final(ticket=1, fault=None),
        messages.Pong(),
    ],
)
def test_reports(message: Report) -> None:
    ours, theirs = make_wires()
    theirs.send_at_once(message)
    assert ours.receive(5) == message
    ours.close()
    theirs.close()


def test_nothing_comes_in_parts() -> None:
    ours, theirs = make_wires()
    sent = [
        messages.Register(
            call=number,
            slabs=[SlabName(name="n" * 36, size_bytes=1)] * (number % 40),
            writable=False,
        )
        for number in range(200)
    ]

    def send_all() -> None:
        for each in sent:
            ours.send(each)

    thread = threading.Thread(target=send_all)
    thread.start()
    assert [theirs.receive(5) for _ in sent] == sent
    thread.join()
    ours.close()
    theirs.close()


def test_nobody_waits_for_an_end_that_does_not_read() -> None:
    ours, theirs = make_wires()
    numbers = iter(range(1_000_000))

    def send_without_end() -> None:
        for number in numbers:
            ours.send_at_once(messages.ClosePeer(peer=number))

    with pytest.raises(BlockingIOError):
        send_without_end()
    # What was accepted is whole.
    assert theirs.receive(5) == messages.ClosePeer(peer=0)
    ours.close()
    theirs.close()


def test_the_end_is_noticed() -> None:
    ours, theirs = make_wires()
    assert theirs.receive(0.001) is None
    ours.send(messages.Ping())
    ours.shut()
    assert theirs.receive(5) == messages.Ping()
    with pytest.raises(EOFError):
        theirs.receive(5)
    with pytest.raises(EOFError):
        ours.receive(5)
    with pytest.raises(OSError, match="pipe"):
        theirs.send(messages.Pong())
    ours.close()
    theirs.close()
