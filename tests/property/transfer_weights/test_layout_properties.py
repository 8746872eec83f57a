from itertools import pairwise

import msgspec
from hfx_transfer.weights import manifest as manifests
from hfx_transfer.weights.chunks import ChunkGrid, from_bitmap, to_bitmap
from hfx_transfer.weights.dtypes import BITS_PER_ELEMENT
from hfx_transfer.weights.layout import Layout, TensorSpec, gaps, lay_out
from hfx_transfer.weights.manifest import Manifest, ParallelRank, SlabEntry, model_hash
from hypothesis import given
from hypothesis import strategies as st

SPECS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.tuples(
        st.sampled_from(sorted(BITS_PER_ELEMENT)),
        st.lists(st.integers(0, 20), max_size=3).map(tuple),
    ),
    max_size=12,
).map(
    lambda found: [
        TensorSpec(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in found.items()
    ]
)


@given(SPECS, st.randoms(use_true_random=False))
def test_layout_does_not_depend_on_the_order(specs: list[TensorSpec], rng: object) -> None:
    shuffled = list(specs)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert lay_out(shuffled) == lay_out(specs)


@given(SPECS)
def test_every_layout_makes_a_manifest_that_is_accepted(specs: list[TensorSpec]) -> None:
    layout = lay_out(specs)
    num_chunks = len(ChunkGrid(layout.slab_sizes_bytes, 4096))
    digests = tuple(f"{index:032x}" for index in range(num_chunks))
    manifest = Manifest(
        model_hash=model_hash(layout, 4096, digests),
        generation=0,
        rank=ParallelRank(),
        chunk_bytes=4096,
        tensors=layout.tensors,
        slabs=tuple(
            SlabEntry(size_bytes=size, regions=(), is_frozen=True)
            for size in layout.slab_sizes_bytes
        ),
        digests=digests,
    )
    assert manifests.decode(manifests.encode(manifest)).layout == layout


@given(SPECS, st.data())
def test_tied_tensors_lie_in_one_place(specs: list[TensorSpec], data: st.DataObject) -> None:
    if not specs:
        return
    first = data.draw(st.sampled_from(specs))
    twin = TensorSpec(name=first.name + "!", dtype=first.dtype, shape=first.shape)
    layout = lay_out([*specs, twin], tied_to={twin.name: first.name})
    places = {place.name: place for place in layout.tensors}
    assert msgspec.structs.replace(places[twin.name], name=first.name) == places[first.name]
    assert layout.slab_sizes_bytes == lay_out(specs).slab_sizes_bytes


@given(SPECS)
def test_tensors_and_gaps_fill_the_slabs(specs: list[TensorSpec]) -> None:
    layout: Layout = lay_out(specs)
    for slab, size in enumerate(layout.slab_sizes_bytes):
        spans = [(p.offset_bytes, p.end_bytes) for p in layout.tensors if p.slab == slab]
        covered = sorted({span for span in spans if span[0] < span[1]} | set(gaps(layout, slab)))
        assert covered[0][0] == 0
        assert covered[-1][1] == size
        assert all(before[1] == after[0] for before, after in pairwise(covered))


@given(st.lists(st.integers(1, 100_000), max_size=6), st.integers(4096, 30_000))
def test_chunks_cover_each_byte_once(sizes: list[int], chunk_bytes: int) -> None:
    grid = ChunkGrid(sizes, chunk_bytes)
    assert [chunk.index for chunk in grid] == list(range(len(grid)))
    for slab, size in enumerate(sizes):
        of_slab = [chunk for chunk in grid if chunk.slab == slab]
        assert sum(chunk.size_bytes for chunk in of_slab) == size
        assert all(0 < chunk.size_bytes <= chunk_bytes for chunk in of_slab)
        for chunk in of_slab:
            assert chunk.offset_bytes % chunk_bytes == 0
            assert grid.at(slab, chunk.offset_bytes) is chunk
            assert grid.at(slab, chunk.offset_bytes + chunk.size_bytes - 1) is chunk


@given(st.integers(0, 200), st.data())
def test_bitmaps_say_what_they_were_told(num_chunks: int, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, num_chunks - 1))) if num_chunks else set()
    assert from_bitmap(to_bitmap(chosen, num_chunks), num_chunks) == chosen
