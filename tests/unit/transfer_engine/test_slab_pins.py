import gc
import threading
import weakref

import pytest
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.pins import PinnedSlab


class CountingSlab(PinnedSlab):
    """Counts how often its bytes were given back."""

    def __init__(self) -> None:
        super().__init__(size_bytes=1, device="cpu")
        self.num_hidden = 0
        self.num_released = 0

    @property
    def address(self) -> int:
        return 0

    def view(self) -> memoryview:
        return memoryview(bytearray(1))

    def _hide(self) -> None:
        self.num_hidden += 1

    def _release(self) -> None:
        self.num_released += 1


def test_an_unpinned_slab_is_given_back_at_once_and_once() -> None:
    slab = CountingSlab()
    slab.close()
    slab.close()
    assert (slab.num_hidden, slab.num_released) == (1, 1)


def test_a_pinned_slab_is_hidden_at_once_and_given_back_with_the_last_pin() -> None:
    slab = CountingSlab()
    slab.pin()
    slab.pin()
    slab.close()
    assert (slab.num_hidden, slab.num_released, slab.num_pins) == (1, 0, 2)
    slab.unpin()
    assert slab.num_released == 0
    slab.unpin()
    assert (slab.num_released, slab.num_pins) == (1, 0)


def test_a_closed_slab_takes_no_new_pin() -> None:
    slab = CountingSlab()
    slab.pin()
    slab.close()
    with pytest.raises(ValueError, match="closed"):
        slab.pin()
    assert slab.num_pins == 1


def test_unpinning_what_is_not_pinned_is_refused() -> None:
    with pytest.raises(ValueError, match="not pinned"):
        CountingSlab().unpin()


def test_pins_of_many_threads_add_up() -> None:
    slab = CountingSlab()

    def pin_and_unpin() -> None:
        for _ in range(2000):
            slab.pin()
            slab.unpin()
        slab.pin()

    threads = [threading.Thread(target=pin_and_unpin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slab.num_pins == 8
    slab.close()
    for _ in range(8):
        assert slab.num_released == 0
        slab.unpin()
    assert slab.num_released == 1


@pytest.mark.parametrize("prefault", [False, True])
def test_host_memory_is_page_aligned_zeroed_and_writable(prefault: bool) -> None:
    slab = HostSlab(3 << 20, prefault=prefault)
    assert slab.address % 4096 == 0
    assert (slab.size_bytes, slab.device, slab.shared_name) == (3 << 20, "cpu", None)
    assert not any(slab.view()[::4096])
    slab.view()[-1] = 7
    assert slab.view()[-1] == 7


def test_a_slab_of_no_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="size_bytes must be at least 1"):
        HostSlab(0)


def test_a_view_outlives_the_slab_it_was_taken_from() -> None:
    slab = HostSlab(4096)
    view = slab.view()
    mapping = weakref.ref(view.obj)
    slab.close()
    view[0] = 9
    assert view[0] == 9
    with pytest.raises(ValueError, match="closed"):
        slab.view()
    del view
    gc.collect()
    assert mapping() is None
