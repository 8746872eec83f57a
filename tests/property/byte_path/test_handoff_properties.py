import random
from itertools import pairwise

from hfx_transfer.handoff import MAX_ROOMS_PER_REQUEST, RoomAllocator
from hypothesis import given, settings
from hypothesis import strategies as st


@given(
    st.integers(),
    st.lists(st.integers(1, 100) | st.integers(1, MAX_ROOMS_PER_REQUEST), min_size=1, max_size=50),
)
@settings(max_examples=100, deadline=None)
def test_rooms_of_different_requests_are_different(seed: int, sizes: list[int]) -> None:
    allocator = RoomAllocator(random.Random(seed))
    spans = sorted((first, first + size) for size in sizes for first in [allocator.take(size)])
    assert spans[0][0] >= 0
    assert spans[-1][1] <= 2**63
    for (_, stop), (start, _) in pairwise(spans):
        assert stop <= start
