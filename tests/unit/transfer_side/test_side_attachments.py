from pathlib import Path

import pytest
from hfx_transfer.engine.side.attachments import IDLE_S, Attachments
from hfx_transfer.engine.side.messages import SlabName
from hfx_transfer.memory.shared import SharedSlab

from hfx_sgl.clock import FakeClock
from hfx_sgl.errors import TransferError


def name_of(slab: SharedSlab) -> SlabName:
    assert slab.shared_name is not None
    return SlabName(name=slab.shared_name, size_bytes=slab.size_bytes)


def num_mappings(name: SlabName) -> int:
    return Path("/proc/self/maps").read_text().count(name.name)


def test_the_same_bytes_are_seen_and_mapped_once() -> None:
    owned = SharedSlab(4096)
    attachments = Attachments(FakeClock())
    mapped = attachments.get(name_of(owned))
    assert attachments.get(name_of(owned)) is mapped
    assert mapped.address != owned.address
    mapped.view()[:5] = b"hello"
    assert bytes(owned.view()[:5]) == b"hello"


def test_idle_memory_is_unmapped() -> None:
    owned, clock = SharedSlab(4096), FakeClock()
    name = name_of(owned)
    attachments = Attachments(clock)
    attachments.get(name)
    clock.advance(IDLE_S - 0.5)
    attachments.close_idle()
    assert num_mappings(name) == 2
    attachments.get(name)
    clock.advance(IDLE_S - 0.5)
    attachments.close_idle()
    assert num_mappings(name) == 2
    clock.advance(1.5)
    attachments.close_idle()
    assert num_mappings(name) == 1
    assert attachments.get(name).view()[0] == 0


def test_what_is_pinned_or_kept_stays() -> None:
    pinned, kept, clock = SharedSlab(4096), SharedSlab(4096), FakeClock()
    attachments = Attachments(clock)
    mapped = attachments.get(name_of(pinned))
    mapped.pin()
    attachments.get(name_of(kept))
    attachments.keep([name_of(kept)])
    attachments.keep([name_of(kept)])
    attachments.release([name_of(kept)])
    clock.advance(IDLE_S)
    attachments.close_idle()
    assert (num_mappings(name_of(pinned)), num_mappings(name_of(kept))) == (2, 2)
    mapped.unpin()
    attachments.release([name_of(kept)])
    clock.advance(IDLE_S)
    attachments.close_idle()
    del mapped
    assert (num_mappings(name_of(pinned)), num_mappings(name_of(kept))) == (1, 1)


def test_memory_that_its_owner_has_closed_cannot_be_mapped() -> None:
    owned = SharedSlab(4096)
    name = name_of(owned)
    owned.close()
    with pytest.raises(TransferError):
        Attachments(FakeClock()).get(name)
