"""Copies between pools are compared with moving token by token."""

from dataclasses import dataclass

from hfx_transfer.kv.layout import KvDtype, KvLayout, Plane, place_of_page
from hfx_transfer.kv.runs import layer_copies, layer_spans, slot_copies, slot_runs
from hypothesis import given
from hypothesis import strategies as st


@dataclass(frozen=True)
class Case:
    ours: KvLayout
    theirs: KvLayout
    our_pages: list[int]
    their_pages: list[int]
    first_token: int
    num_tokens: int


def _layout(page_tokens: int, num_pages: int, num_slabs: int) -> KvLayout:
    return KvLayout(
        num_layers=2,
        page_tokens=page_tokens,
        num_kv_heads=1,
        head_dim=3,
        dtype=KvDtype.UINT8,
        num_pages=num_pages,
        num_slabs=num_slabs,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    total = draw(st.integers(1, 40))
    first = draw(st.integers(0, total - 1))
    sides = []
    for _ in range(2):
        page_tokens = draw(st.sampled_from([1, 2, 4, 5, 16]))
        num_needed = -(-total // page_tokens)
        num_pages = num_needed + draw(st.integers(0, 5))
        pages = draw(st.permutations(range(num_pages)))[:num_needed]
        sides.append((_layout(page_tokens, num_pages, draw(st.sampled_from([1, 2]))), pages))
    (ours, our_pages), (theirs, their_pages) = sides
    return Case(
        ours=ours,
        theirs=theirs,
        our_pages=list(our_pages),
        their_pages=list(their_pages),
        first_token=first,
        num_tokens=draw(st.integers(1, total - first)),
    )


def _token_offsets(
    layout: KvLayout, pages: list[int], layer: int, token: int
) -> list[tuple[int, int]]:
    """Return where keys and values of one token begin, the long way."""
    page, place = pages[token // layout.page_tokens], token % layout.page_tokens
    return [
        (found.slab, found.offset_bytes + place * layout.token_bytes)
        for plane in Plane
        for found in [place_of_page(layout, layer, plane, page)]
    ]


@given(case=cases(), layer=st.integers(0, 1))
def test_every_token_goes_where_it_belongs_and_nothing_else_moves(case: Case, layer: int) -> None:
    tokens = range(case.first_token, case.first_token + case.num_tokens)
    from_runs = slot_runs(
        case.ours.page_tokens,
        case.our_pages[case.first_token // case.ours.page_tokens :],
        case.first_token,
        case.num_tokens,
    )
    to_runs = slot_runs(
        case.theirs.page_tokens,
        case.their_pages[case.first_token // case.theirs.page_tokens :],
        case.first_token,
        case.num_tokens,
    )
    moved = {
        (copy.from_slab, copy.from_offset_bytes + at): (copy.to_slab, copy.to_offset_bytes + at)
        for copy in layer_copies(case.ours, case.theirs, layer, slot_copies(from_runs, to_runs))
        for at in range(0, copy.size_bytes, case.ours.token_bytes)
    }
    expected = {
        here: there
        for token in tokens
        for here, there in zip(
            _token_offsets(case.ours, case.our_pages, layer, token),
            _token_offsets(case.theirs, case.their_pages, layer, token),
            strict=True,
        )
    }
    assert moved == expected


@given(case=cases(), layer=st.integers(0, 1))
def test_both_sides_hash_the_same_bytes_in_the_same_order(case: Case, layer: int) -> None:
    """Each side's spans, cut into tokens, list keys then values in order of tokens."""
    for layout, pages in ((case.ours, case.our_pages), (case.theirs, case.their_pages)):
        runs = slot_runs(
            layout.page_tokens,
            pages[case.first_token // layout.page_tokens :],
            case.first_token,
            case.num_tokens,
        )
        listed = [
            (span.slab, span.offset_bytes + at)
            for span in layer_spans(layout, layer, runs)
            for at in range(0, span.size_bytes, layout.token_bytes)
        ]
        tokens = range(case.first_token, case.first_token + case.num_tokens)
        both = [_token_offsets(layout, pages, layer, token) for token in tokens]
        assert listed == [keys for keys, _ in both] + [values for _, values in both]
