import pytest
from hfx_transfer.engine.registry import Registry
from hfx_transfer.memory.pins import PinnedSlab

from hfx_sgl.errors import TransferError, TransferFault


class PlacedSlab(PinnedSlab):
    """A slab that claims to be somewhere."""

    def __init__(self, address: int, size_bytes: int, device: str = "cpu") -> None:
        super().__init__(size_bytes=size_bytes, device=device)
        self._address = address

    @property
    def address(self) -> int:
        return self._address

    def view(self) -> memoryview:
        raise ValueError("nothing is there")

    def _release(self) -> None:
        return None


def test_slabs_are_found_pinned_by_the_id_they_got() -> None:
    registry = Registry()
    slabs = [PlacedSlab(0, 10), PlacedSlab(10, 5)]
    first, second = registry.add(slabs, writable=True)
    assert first != second
    assert (registry.size_of(first), registry.size_of(second)) == (10, 5)
    assert registry.pinned(second) == (slabs[1], True)
    assert [slab.num_pins for slab in slabs] == [0, 1]


def test_each_slab_is_writable_or_not() -> None:
    registry = Registry()
    open_slab, shut_slab = PlacedSlab(0, 10), PlacedSlab(10, 5)
    [open_id] = registry.add([open_slab], writable=True)
    [shut_id] = registry.add([shut_slab], writable=False)
    assert registry.pinned(open_id) == (open_slab, True)
    assert registry.pinned(shut_id) == (shut_slab, False)


def test_what_was_removed_is_not_found_but_stays_pinned() -> None:
    registry = Registry()
    slab = PlacedSlab(0, 10)
    [slab_id] = registry.add([slab], writable=True)
    registry.pinned(slab_id)
    registry.remove([slab, PlacedSlab(50, 1)])
    assert registry.pinned(slab_id) is None
    assert registry.size_of(slab_id) is None
    assert slab.num_pins == 1


@pytest.mark.parametrize(
    ("address", "size_bytes", "device", "overlaps"),
    [
        (100, 50, "cpu", True),
        (120, 1, "cpu", True),
        (90, 11, "cpu", True),
        (149, 10, "cpu", True),
        (50, 200, "cpu", True),
        (150, 10, "cpu", False),
        (50, 50, "cpu", False),
        (100, 50, "cuda:0", False),
    ],
)
def test_overlaps_are_refused_per_device_and_then_nothing_is_added(
    address: int, size_bytes: int, device: str, overlaps: bool
) -> None:
    registry = Registry()
    registry.add([PlacedSlab(100, 50)], writable=True)
    wanted = [PlacedSlab(1000, 1), PlacedSlab(address, size_bytes, device)]
    if not overlaps:
        assert len(registry.add(wanted, writable=True)) == 2
        return
    with pytest.raises(TransferError) as caught:
        registry.add(wanted, writable=True)
    assert caught.value.fault is TransferFault.INCOMPATIBLE
    assert len(registry.add(wanted[:1], writable=True)) == 1, "the good one was not added before"
