"""Tokens of a sequence, and where they lie in the pages of either side. Pure arithmetic.

A slot is the place of one token in a plane: page times page size, plus its place in the page. The
same slots hold for all layers, for keys and for values.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hfx_transfer.kv.layout import KvLayout, Plane, place_of_plane


class SlotRun(NamedTuple):
    """Slots in a row."""

    first_slot: int
    num_tokens: int


class SlotCopy(NamedTuple):
    """Slots in a row on both sides."""

    from_slot: int
    to_slot: int
    num_tokens: int


class Span(NamedTuple):
    """Bytes in a row."""

    slab: int
    offset_bytes: int
    size_bytes: int


class Copy(NamedTuple):
    """Bytes in a row on both sides."""

    from_slab: int
    from_offset_bytes: int
    to_slab: int
    to_offset_bytes: int
    size_bytes: int


def slot_runs(
    page_tokens: int, pages: Sequence[int], first_token: int, num_tokens: int
) -> list[SlotRun]:
    """Return the slots of tokens `first_token` to `first_token + num_tokens` of a sequence.

    Args:
        page_tokens: tokens in a page.
        pages: those of the sequence from the one that holds `first_token` on.

    Raises:
        ValueError: the pages do not suffice.
    """
    offset = first_token % page_tokens
    if len(pages) * page_tokens < offset + num_tokens:
        raise ValueError(
            f"{len(pages)} pages of {page_tokens} tokens do not hold {num_tokens} tokens that "
            f"begin at place {offset} of the first"
        )
    runs: list[SlotRun] = []
    at_page = 0
    while num_tokens > 0:
        taken = min(page_tokens - offset, num_tokens)
        slot = pages[at_page] * page_tokens + offset
        if runs and sum(runs[-1]) == slot:
            runs[-1] = SlotRun(runs[-1].first_slot, runs[-1].num_tokens + taken)
        else:
            runs.append(SlotRun(slot, taken))
        num_tokens -= taken
        offset, at_page = 0, at_page + 1
    return runs


def slot_copies(from_runs: Iterable[SlotRun], to_runs: Iterable[SlotRun]) -> list[SlotCopy]:
    """Return the longest copies that bring tokens from one side's slots to the other's.

    Raises:
        ValueError: the two sides have different numbers of tokens.
    """
    copies: list[SlotCopy] = []
    rest_to = iter(to_runs)
    to_slot, to_left = 0, 0
    for from_slot, from_left in from_runs:
        while from_left > 0:
            if to_left == 0:
                to_slot, to_left = next(rest_to, SlotRun(0, 0))
                if to_left == 0:
                    raise ValueError("there are fewer slots to copy to than tokens")
            taken = min(from_left, to_left)
            copies.append(SlotCopy(from_slot, to_slot, taken))
            from_slot, from_left = from_slot + taken, from_left - taken
            to_slot, to_left = to_slot + taken, to_left - taken
    if to_left or next(rest_to, None) is not None:
        raise ValueError("there are more slots to copy to than tokens")
    return copies


def layer_copies(
    ours: KvLayout, theirs: KvLayout, layer: int, copies: Iterable[SlotCopy]
) -> Iterator[Copy]:
    """Yield what of one layer has to be written where: keys first, then values."""
    size = ours.token_bytes
    copies = list(copies)
    for plane in Plane:
        here = place_of_plane(ours, layer, plane)
        there = place_of_plane(theirs, layer, plane)
        for from_slot, to_slot, num_tokens in copies:
            yield Copy(
                here.slab,
                here.offset_bytes + from_slot * size,
                there.slab,
                there.offset_bytes + to_slot * size,
                num_tokens * size,
            )


def layer_spans(layout: KvLayout, layer: int, runs: Iterable[SlotRun]) -> Iterator[Span]:
    """Yield the bytes of one layer's tokens: keys first, then values, each in order of tokens."""
    size = layout.token_bytes
    runs = list(runs)
    for plane in Plane:
        start = place_of_plane(layout, layer, plane)
        for first_slot, num_tokens in runs:
            offset_bytes = start.offset_bytes + first_slot * size
            yield Span(start.slab, offset_bytes, num_tokens * size)
