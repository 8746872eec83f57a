import pytest
from hfx_transfer.memory.layout import lay_out
from hypothesis import given
from hypothesis import strategies as st

sizes = st.lists(st.integers(0, 5000), max_size=60)
alignments = st.sampled_from([1, 2, 64, 512])


@given(sizes=sizes, limit=st.integers(1, 8000), alignment=alignments)
def test_every_tensor_has_a_place_of_its_own(sizes: list[int], limit: int, alignment: int) -> None:
    layout = lay_out(sizes, slab_limit_bytes=limit, alignment_bytes=alignment)
    assert len(layout.places) == len(sizes)
    end_of_last: dict[int, int] = {}
    for place, size_bytes in zip(layout.places, sizes, strict=True):
        assert place.offset_bytes % alignment == 0
        assert place.offset_bytes >= end_of_last.get(place.slab_index, 0)
        end = place.offset_bytes + size_bytes
        assert end <= layout.slab_sizes_bytes[place.slab_index]
        end_of_last[place.slab_index] = max(end, place.offset_bytes + 1)


@given(sizes=sizes, limit=st.integers(1, 8000), alignment=alignments)
def test_slabs_are_few_ordered_and_within_the_limit(
    sizes: list[int], limit: int, alignment: int
) -> None:
    layout = lay_out(sizes, slab_limit_bytes=limit, alignment_bytes=alignment)
    indices = [place.slab_index for place in layout.places]
    assert indices == sorted(indices)
    assert sorted(set(indices)) == list(range(len(layout.slab_sizes_bytes)))
    for index, slab_bytes in enumerate(layout.slab_sizes_bytes):
        assert slab_bytes > 0
        assert slab_bytes <= limit or indices.count(index) == 1
    # What two neighbours hold would not have fitted into the first of them.
    for index in range(1, len(layout.slab_sizes_bytes)):
        first = sizes[indices.index(index)]
        assert layout.slab_sizes_bytes[index - 1] + max(first, 1) > limit - alignment


def test_nothing_needs_no_slab() -> None:
    layout = lay_out([])
    assert (layout.slab_sizes_bytes, layout.places) == ((), ())


def test_a_hundred_small_tensors_share_one_slab() -> None:
    layout = lay_out([1000] * 100)
    assert layout.slab_sizes_bytes == (100 * 1024,)


@pytest.mark.parametrize(
    ("sizes", "limit", "alignment"), [([-1], 100, 1), ([1], 0, 1), ([1], 100, 0)]
)
def test_impossible_numbers_are_refused(sizes: list[int], limit: int, alignment: int) -> None:
    with pytest.raises(ValueError, match=r"bytes"):
        lay_out(sizes, slab_limit_bytes=limit, alignment_bytes=alignment)
