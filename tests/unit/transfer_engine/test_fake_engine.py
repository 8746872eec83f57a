import pytest
from hfx_transfer.engine.fake import FakeEngine, FakeNetwork, FakePeer, Scripted
from hfx_transfer.engine.protocol import (
    Backend,
    Operation,
    RegionHandle,
    TicketState,
    TransferEngine,
)
from hfx_transfer.memory.host import HostSlab
from support.slabs import filled

from hfx_sgl.errors import TransferError, TransferFault


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


def offer(network: FakeNetwork, session: str = "a") -> RegionHandle:
    [handle] = FakeEngine(network, session).register([filled(HostSlab(256), 1)], writable=True)
    return handle


def reach(network: FakeNetwork, handle: RegionHandle) -> FakePeer:
    return FakeEngine(network, "me").connect(handle, first_contact_timeout_s=1)


def test_it_says_what_it_is(network: FakeNetwork) -> None:
    engine: TransferEngine = FakeEngine(network, "a", Backend.MOONCAKE)
    assert (engine.backend, engine.transport) == (Backend.MOONCAKE, "fake")
    assert engine.register([HostSlab(8)], writable=True)[0].backend is Backend.MOONCAKE


def test_a_killed_peer_fails_what_is_under_way_and_cannot_be_reached(network: FakeNetwork) -> None:
    handle = offer(network)
    network.plan("a", Scripted(hangs=True))
    slab = HostSlab(256)
    ticket = reach(network, handle).submit(
        Operation.READ, slab, local_offset=0, remote_offset=0, size_bytes=256
    )
    assert ticket.poll() is TicketState.RUNNING
    network.kill("a")
    assert ticket.poll() is TicketState.FAILED
    assert ticket.poll() is TicketState.FAILED
    assert (ticket.fault, slab.num_pins) == (TransferFault.PEER_FAILED, 0)
    with pytest.raises(TransferError) as caught:
        reach(network, handle)
    assert caught.value.fault is TransferFault.UNREACHABLE


def test_a_silent_peer_times_out(network: FakeNetwork) -> None:
    handle = offer(network)
    network.silence("a")
    with pytest.raises(TransferError) as caught:
        reach(network, handle)
    assert caught.value.fault is TransferFault.FIRST_CONTACT_TIMEOUT


def test_what_was_unregistered_cannot_be_reached(network: FakeNetwork) -> None:
    engine = FakeEngine(network, "a")
    first, second = HostSlab(8), HostSlab(8)
    handles = engine.register([first, second], writable=True)
    engine.unregister([first])
    reach(network, handles[1])
    with pytest.raises(TransferError):
        reach(network, handles[0])
    engine.close()
    with pytest.raises(TransferError):
        reach(network, handles[1])


def test_a_slab_is_registered_once(network: FakeNetwork) -> None:
    engine = FakeEngine(network, "a")
    slab = HostSlab(8)
    engine.register([slab], writable=True)
    with pytest.raises(TransferError) as caught:
        engine.register([slab], writable=True)
    assert caught.value.fault is TransferFault.INCOMPATIBLE


def test_a_slab_that_is_not_writable_takes_no_writes(network: FakeNetwork) -> None:
    offered, news = filled(HostSlab(256), 1), filled(HostSlab(256), 2)
    [handle] = FakeEngine(network, "a").register([offered], writable=False)
    peer = reach(network, handle)
    ticket = peer.submit(Operation.WRITE, news, local_offset=0, remote_offset=0, size_bytes=256)
    assert (ticket.poll(), ticket.fault) == (TicketState.FAILED, TransferFault.INCOMPATIBLE)
    assert offered.view() == filled(HostSlab(256), 1).view()
    assert (news.num_pins, handle.is_writable) == (0, False)
    ticket = peer.submit(Operation.READ, news, local_offset=0, remote_offset=0, size_bytes=256)
    assert ticket.poll() is TicketState.DONE
    assert news.view() == offered.view()


def test_bytes_arrive_with_the_poll_that_says_so(network: FakeNetwork) -> None:
    handle = offer(network)
    network.plan("a", Scripted(polls=2))
    slab = HostSlab(256)
    ticket = reach(network, handle).submit(
        Operation.READ, slab, local_offset=0, remote_offset=0, size_bytes=256
    )
    assert ticket.poll() is TicketState.RUNNING
    assert not any(slab.view())
    assert slab.num_pins == 1
    assert ticket.poll() is TicketState.DONE
    assert any(slab.view())
    assert slab.num_pins == 0
