import threading

import pytest
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.weights.board import ChunkBoard
from hfx_transfer.weights.chunks import from_bitmap
from hfx_transfer.weights.holding import Holding, Identity
from hfx_transfer.weights.layout import Layout
from hfx_transfer.weights.manifest import ParallelRank

from hfx_sgl.errors import TransferError, TransferFault

CHUNK_BYTES = 4096
SIZES = (3 * CHUNK_BYTES, CHUNK_BYTES + 1)


def make(*verified: int) -> tuple[Holding, ChunkBoard]:
    identity = Identity(
        model_hash="", generation=0, rank=ParallelRank(), chunk_bytes=CHUNK_BYTES,
        digests=("",) * 5,
    )  # fmt: skip
    holding = Holding(
        Layout(tensors=(), slab_sizes_bytes=SIZES),
        [HostSlab(size) for size in SIZES],
        identity,
        is_frozen=False,
        is_complete=False,
    )
    for index in verified:
        holding.verified.add(index)
    return holding, ChunkBoard(holding)


def test_chunks_are_dealt_once_in_order() -> None:
    _, board = make(1)
    assert board.next_slab(None) == 0
    assert [board.claim(0, None) for _ in range(3)] == [0, 2, None]
    assert board.next_slab(None) == 1
    assert [board.claim(1, None) for _ in range(3)] == [3, 4, None]
    assert board.next_slab(None) is None
    assert not board.is_complete


def test_only_what_a_source_has_is_dealt_to_it() -> None:
    _, board = make()
    assert board.next_slab({4}) == 1
    assert board.claim(0, {1, 4}) == 1
    assert board.claim(0, {1, 4}) is None
    assert board.claim(1, {1, 4}) == 4
    assert board.next_slab({1, 4}) is None


def test_what_is_given_back_is_dealt_first() -> None:
    _, board = make()
    claimed = [board.claim(0, None), board.claim(0, None)]
    assert claimed == [0, 1]
    board.give_back([1, 0])
    assert [board.claim(0, None) for _ in range(4)] == [0, 1, 2, None]


def test_complete_when_all_are_verified() -> None:
    holding, board = make(0, 1, 2)
    for index in (3, 4):
        assert not board.is_complete
        assert board.claim(1, None) == index
        board.mark_verified(index)
    assert board.is_complete
    assert board.is_over
    assert from_bitmap(holding.verified.bitmap(), 5) == {0, 1, 2, 3, 4}


def test_nothing_is_dealt_once_it_is_spoilt() -> None:
    _, board = make()
    first = TransferError("first", fault=TransferFault.STALLED)
    board.spoil(first)
    board.spoil(TransferError("second", fault=TransferFault.STALLED))
    assert board.spoilt is first
    assert board.is_over
    assert board.claim(0, None) is None


def test_whoever_waits_is_woken() -> None:
    _, board = make(0, 1, 2, 3)
    woken = threading.Event()

    def wait() -> None:
        board.wait(30.0)
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    board.mark_verified(4)
    assert woken.wait(10.0)
    thread.join()


def test_listeners_hear_of_each_chunk() -> None:
    holding, board = make()
    heard: list[int] = []
    holding.verified.subscribe(lambda: heard.append(len(holding.verified)))
    board.mark_verified(2)
    board.mark_verified(0)
    assert heard == [1, 2]


@pytest.mark.parametrize(("bitmap", "num_chunks"), [(b"", 1), (b"\x00\x00", 8), (b"\x20", 5)])
def test_bitmap_that_does_not_fit(bitmap: bytes, num_chunks: int) -> None:
    with pytest.raises(ValueError, match=r"bitmap|bit 5 is set"):
        from_bitmap(bitmap, num_chunks)
