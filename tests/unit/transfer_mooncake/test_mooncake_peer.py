import msgspec
import pytest
from hfx_transfer.engine.mooncake.link import Link
from hfx_transfer.engine.mooncake.peer import MooncakePeer
from hfx_transfer.engine.mooncake.regions import MAX_REGIONS, Regions
from hfx_transfer.engine.protocol import Backend, Operation, RegionHandle, Ticket, TicketState
from hfx_transfer.memory.host import HostSlab
from support.native_mooncake import FakeNative

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError, TransferFault

HANDLE = RegionHandle(
    backend=Backend.MOONCAKE, session="peer:1", base=1 << 40, size_bytes=8192, is_writable=True
)
PROGRESS_TIMEOUT_S = 5.0


class Rig:
    """A peer on a fake engine, and what became of its link."""

    def __init__(self, handle: RegionHandle = HANDLE, *, registers: bool = False) -> None:
        self.clock = FakeClock()
        self.native = FakeNative()
        self.link = Link(self.native, registers=registers)
        self.released: list[bool] = []
        self.peer = MooncakePeer(
            handle,
            self.link,
            device_kinds={"cpu"},
            clock=self.clock,
            progress_timeout_s=PROGRESS_TIMEOUT_S,
            release=lambda _, healthy: self.released.append(healthy),
        )

    def submit(self, local: HostSlab, operation: Operation = Operation.READ) -> Ticket:
        return self.peer.submit(operation, local, local_offset=8, remote_offset=16, size_bytes=100)


class OtherSlab(HostSlab):
    """Host memory that claims to be somewhere else."""

    @property
    def device(self) -> str:
        return "cuda:0"


def test_our_side_keeps_to_what_the_handle_allows() -> None:
    rig, local = Rig(msgspec.structs.replace(HANDLE, is_writable=False)), HostSlab(4096)
    ticket = rig.submit(local, Operation.WRITE)
    assert (ticket.poll(), ticket.fault) == (TicketState.FAILED, TransferFault.INCOMPATIBLE)
    assert (rig.native.submitted, local.num_pins) == ([], 0)
    rig.native.statuses.append(1)
    assert rig.submit(local).poll() is TicketState.DONE
    rig.peer.close()
    assert rig.released == [True], "nothing is wrong with the link"


@pytest.mark.parametrize("operation", Operation)
def test_one_entry_for_each_transfer(operation: Operation) -> None:
    rig, local = Rig(), HostSlab(4096)
    rig.native.statuses.extend([0, 0, 1])
    ticket = rig.submit(local, operation)
    assert rig.native.submitted == [
        (operation.value, "peer:1", local.address + 8, HANDLE.base + 16, 100)
    ]
    assert [ticket.poll() for _ in range(4)] == [
        TicketState.RUNNING,
        TicketState.RUNNING,
        TicketState.DONE,
        TicketState.DONE,
    ]
    assert ticket.fault is None
    assert local.num_pins == 0


@pytest.mark.parametrize(
    ("after_s", "fault"),
    [
        (0.0, TransferFault.PEER_FAILED),
        (PROGRESS_TIMEOUT_S - 0.1, TransferFault.PEER_FAILED),
        (PROGRESS_TIMEOUT_S, TransferFault.STALLED),
    ],
)
@pytest.mark.parametrize("status", [-1, -2])
def test_failures(after_s: float, fault: TransferFault, status: int) -> None:
    rig, local = Rig(), HostSlab(4096)
    rig.native.statuses.extend([0, status])
    ticket = rig.submit(local)
    assert ticket.poll() is TicketState.RUNNING
    assert local.num_pins == 1
    rig.clock.advance(after_s)
    assert [ticket.poll(), ticket.poll()] == [TicketState.FAILED] * 2
    assert ticket.fault is fault
    assert local.num_pins == 0
    rig.peer.close()
    assert rig.released == [False]


def test_the_link_is_released_once_and_after_the_last_ticket() -> None:
    rig, local = Rig(), HostSlab(4096)
    tickets = [rig.submit(local), rig.submit(local)]
    rig.peer.close()
    rig.peer.close()
    assert rig.released == []
    tickets[1].poll()
    assert rig.released == []
    tickets[0].poll()
    assert rig.released == [True]
    with pytest.raises(ValueError, match="closed"):
        rig.submit(local)


def test_a_refused_transfer_is_a_failed_ticket() -> None:
    rig, local = Rig(), HostSlab(4096)
    rig.native.refuses = True
    ticket = rig.submit(local)
    # Id 0 must never be asked about: the fake fails where the library would crash.
    assert ticket.poll() is TicketState.FAILED
    assert ticket.fault is TransferFault.PEER_FAILED
    assert local.num_pins == 0
    rig.peer.close()
    assert rig.released == [False]


def test_what_cannot_be_asked_for() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="no such span"):
        rig.peer.submit(
            Operation.READ, HostSlab(4096), local_offset=0, remote_offset=8191, size_bytes=2
        )
    with pytest.raises(ValueError, match="does not move memory of cuda:0"):
        rig.submit(OtherSlab(4096))
    assert rig.native.submitted == []


def test_over_tcp_local_memory_is_not_exposed() -> None:
    rig = Rig()
    rig.submit(HostSlab(4096))
    assert rig.native.registered == {}


def test_adapters_keep_local_memory_until_the_peer_is_closed() -> None:
    rig, local = Rig(registers=True), HostSlab(4096)
    tickets = [rig.submit(local), rig.submit(local)]
    assert rig.native.registered == {local.address: local.size_bytes}
    local.close()
    for ticket in tickets:
        ticket.poll()
    # The adapter still knows the memory, which therefore may not serve anything else.
    assert local.num_pins == 1
    rig.peer.close()
    assert rig.native.registered == {}
    assert local.num_pins == 0


def test_local_memory_that_an_adapter_refuses() -> None:
    rig, local = Rig(registers=True), HostSlab(4096)
    rig.native.register_code = -7
    ticket = rig.submit(local)
    assert ticket.poll() is TicketState.FAILED
    assert ticket.fault is TransferFault.INCOMPATIBLE
    assert local.num_pins == 0
    assert rig.native.submitted == []


def test_registration_is_one_call_for_each_kind_of_place() -> None:
    native = FakeNative()
    regions = Regions(native)
    slabs = [HostSlab(4096), HostSlab(8192), OtherSlab(4096)]
    regions.add(slabs)
    assert native.registered == {slab.address: slab.size_bytes for slab in slabs}
    assert native.locations == ["*"]
    regions.remove([slabs[0], HostSlab(4096)])
    assert set(native.registered) == {slab.address for slab in slabs[1:]}
    assert not regions.holds(slabs[0])
    assert regions.all() == slabs[1:]


def test_registration_of_overlaps_and_refusals_leaves_nothing_behind() -> None:
    native = FakeNative()
    regions = Regions(native)
    first, second = HostSlab(4096), HostSlab(4096)
    regions.add([first])
    with pytest.raises(TransferError, match="overlaps"):
        regions.add([second, first])
    native.register_code = -1
    with pytest.raises(TransferError, match="does not register"):
        regions.add([second])
    assert set(native.registered) == {first.address}
    assert regions.all() == [first]


def test_many_small_slabs_are_refused() -> None:
    regions = Regions(FakeNative())
    slabs = [HostSlab(1) for _ in range(MAX_REGIONS + 1)]
    with pytest.raises(TransferError, match="use larger ones"):
        regions.add(slabs)
    regions.add(slabs[1:])
