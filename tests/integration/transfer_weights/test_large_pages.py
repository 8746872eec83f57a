"""Shared memory on large pages: faster to map, and otherwise the same."""

import re
import threading
from pathlib import Path
from typing import cast

import pytest
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.weights import Seed, serve_weights
from support.router import eventually

MIB = 1 << 20


def bytes_on_large_pages(slab: SharedSlab) -> int:
    """Return how much of a slab whoever maps it gets on large pages."""
    name = str(slab.shared_name)
    mapped = SharedSlab.attach(name, slab.size_bytes)
    try:
        sum(mapped.view()[::4096])  # the kernel counts what was touched
        mappings = Path("/proc/self/smaps").read_text().split(f"/dev/shm/{name}\n")[1:]
        counts = [re.search(r"^ShmemPmdMapped: +(\d+) kB$", text, re.M) for text in mappings]
        return max(int(count[1]) for count in counts if count is not None) * 1024
    finally:
        mapped.close()


@pytest.fixture(scope="module")
def kernel_moves() -> None:
    slab = SharedSlab(4 * MIB)
    try:
        if not slab.move_to_large_pages(stop=threading.Event()):
            pytest.skip("this kernel moves no memory onto large pages, or has none free")
    finally:
        slab.close()


@pytest.mark.usefixtures("kernel_moves")
def test_the_bytes_stay_what_they_are() -> None:
    slab = SharedSlab(64 * MIB)
    try:
        content = bytes(range(256)) * (64 * MIB // 256)
        slab.view()[:] = content
        if bytes_on_large_pages(slab):
            pytest.skip("shared memory has large pages by itself here")
        moved = slab.move_to_large_pages(stop=threading.Event())
        assert 0 < moved <= slab.size_bytes
        assert bytes_on_large_pages(slab) == moved
        assert slab.view() == content
    finally:
        slab.close()


def test_a_stop_is_seen() -> None:
    slab = SharedSlab(4 * MIB)
    try:
        stop = threading.Event()
        stop.set()
        assert slab.move_to_large_pages(stop=stop) == 0
    finally:
        slab.close()


@pytest.mark.usefixtures("kernel_moves")
async def test_a_seed_moves_what_it_serves() -> None:
    import torch

    with serve_weights({"weight": torch.ones(8 * MIB)}, copy=True) as seed:
        slab = cast(SharedSlab, seed.holding.slabs[0])
        is_moved = await eventually(lambda: bytes_on_large_pages(slab) > 0, within_s=20)
        if not is_moved and not slab.move_to_large_pages(stop=threading.Event()):
            pytest.skip("the kernel has no large page left")
        assert is_moved
        assert await eventually(lambda: slab.num_pins == 0, within_s=20)
        assert_ends(seed)


def assert_ends(seed: Seed) -> None:
    (slab,) = seed.holding.slabs
    seed.close()
    assert slab.num_pins == 0
    with pytest.raises(ValueError, match="closed"):
        slab.view()
