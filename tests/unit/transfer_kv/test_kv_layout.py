import pytest
from hfx_transfer.kv.layout import (
    KvDtype,
    KvLayout,
    Plane,
    check_compatible,
    place_of_page,
    place_of_plane,
)

from hfx_sgl.errors import TransferError, TransferFault


def layout(**changes: object) -> KvLayout:
    fields: dict[str, object] = {
        "num_layers": 4, "page_tokens": 4, "num_kv_heads": 2, "head_dim": 8,
        "dtype": KvDtype.FLOAT16, "num_pages": 10, "num_slabs": 2,
    }  # fmt: skip
    return KvLayout(**(fields | changes))  # type: ignore[arg-type]


def test_sizes_follow_from_the_shape() -> None:
    made = layout()
    assert made.token_bytes == 2 * 8 * 2
    assert made.plane_bytes == 10 * 4 * made.token_bytes
    assert made.slab_bytes == made.plane_bytes * 2 * 2
    assert made.handoff_token_bytes == made.token_bytes * 2 * 4
    assert [made.num_pages_for(n) for n in (1, 4, 5, 8)] == [1, 1, 2, 2]


@pytest.mark.parametrize("num_slabs", [1, 2, 4])
def test_the_pages_of_all_planes_fill_the_slabs_without_a_gap(num_slabs: int) -> None:
    made = layout(num_slabs=num_slabs)
    page_bytes = made.page_tokens * made.token_bytes
    found = sorted(
        (place.slab, place.offset_bytes)
        for layer in range(made.num_layers)
        for plane in Plane
        for page in range(made.num_pages)
        for place in [place_of_page(made, layer, plane, page)]
    )
    assert found == [
        (slab, offset)
        for slab in range(num_slabs)
        for offset in range(0, made.slab_bytes, page_bytes)
    ]


def test_keys_come_before_values_and_layers_stay_in_order() -> None:
    made = layout(num_slabs=2)
    starts = [
        (place.slab, place.offset_bytes)
        for layer in range(4)
        for plane in (Plane.KEYS, Plane.VALUES)
        for place in [place_of_plane(made, layer, plane)]
    ]
    assert starts == sorted(starts)
    assert [slab for slab, _ in starts] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("layer", "page"), [(4, 0), (-1, 0), (0, 10), (0, -1)])
def test_there_is_no_page_beyond_the_last(layer: int, page: int) -> None:
    with pytest.raises(IndexError):
        place_of_page(layout(), layer, Plane.KEYS, page)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"page_tokens": 0}, "page_tokens"),
        ({"num_pages": -1}, "num_pages"),
        ({"num_slabs": 3}, "num_slabs must divide num_layers"),
    ],
)
def test_impossible_layouts_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout(**changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_layers": 2}, "num_layers is 4 here and 2 there"),
        ({"num_kv_heads": 1}, "num_kv_heads is 2 here and 1 there"),
        ({"head_dim": 16}, "head_dim is 8 here and 16 there"),
        ({"dtype": KvDtype.BFLOAT16}, "dtype is float16 here and bfloat16 there"),
    ],
)
def test_what_does_not_match_is_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(TransferError, match=named) as caught:
        check_compatible(layout(), layout(**changes))
    assert caught.value.fault is TransferFault.INCOMPATIBLE


def test_page_size_pages_and_slabs_may_differ() -> None:
    check_compatible(layout(), layout(page_tokens=16, num_pages=3, num_slabs=1))
