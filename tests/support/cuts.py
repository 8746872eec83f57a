"""Cuts bytes into pieces, as a network does."""

from itertools import pairwise

from hypothesis import strategies as st


def cut(data: bytes, size_bytes: int) -> list[bytes]:
    """Pieces of one size, the last perhaps shorter."""
    return [data[at : at + size_bytes] for at in range(0, len(data), size_bytes)]


@st.composite
def pieces_of(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Any way to cut `data` into pieces that are not empty."""
    if len(data) < 2:
        return [data] if data else []
    kind = draw(st.sampled_from(["whole", "bytes", "anywhere", "anywhere", "anywhere"]))
    if kind == "whole":
        return [data]
    if kind == "bytes":
        return cut(data, 1)
    places = draw(st.sets(st.integers(1, len(data) - 1), min_size=1, max_size=8))
    edges = [0, *sorted(places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]
