from itertools import pairwise

from hfx_transfer.kv.pages import PageAllocator, Reservation, pages_of, runs_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule


class AllocatorMachine(RuleBasedStateMachine):
    """Keeps its own books on who has which page."""

    @initialize(num_pages=st.integers(1, 40))
    def make(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self.num_announced = 0
        self.num_released = 0
        self.allocator = PageAllocator(num_pages, on_release=self._announce)
        self.held: list[Reservation] = []

    def _announce(self) -> None:
        self.num_announced += 1

    @rule(num_pages=st.integers(1, 20))
    def reserve(self, num_pages: int) -> None:
        num_free = self.num_pages - sum(len(each.pages) for each in self.held)
        reservation = self.allocator.reserve(num_pages)
        assert (reservation is None) == (num_pages > num_free)
        if reservation is not None:
            assert len(reservation.pages) == num_pages
            self.held.append(reservation)

    @rule(at=st.integers(0, 100), twice=st.booleans())
    def release(self, at: int, twice: bool) -> None:
        if self.held:
            reservation = self.held.pop(at % len(self.held))
            for _ in range(1 + twice):
                reservation.release()
            assert reservation.is_released
            self.num_released += 1
            assert self.num_announced == self.num_released

    @invariant()
    def no_page_has_two_owners_and_none_is_lost(self) -> None:
        pages = [page for each in self.held for page in each.pages]
        assert len(set(pages)) == len(pages)
        assert set(pages) <= set(range(self.num_pages))
        assert self.allocator.num_free == self.num_pages - len(pages)

    def teardown(self) -> None:
        for reservation in getattr(self, "held", []):
            reservation.release()
        if hasattr(self, "allocator"):
            # All of them again, in one row: nothing was lost, and neighbours have found together.
            everything = self.allocator.reserve(self.num_pages)
            assert everything is not None
            assert everything.pages == tuple(range(self.num_pages))


TestAllocator = AllocatorMachine.TestCase


@given(st.lists(st.integers(0, 30), unique=True))
def test_runs_are_the_pages_in_their_order(pages: list[int]) -> None:
    runs = runs_of(pages)
    assert pages_of(runs) == tuple(pages)
    assert all(sum(first) != second.first_page for first, second in pairwise(runs))


def test_a_block_gives_its_pages_back() -> None:
    allocator = PageAllocator(4)
    reservation = allocator.reserve(3)
    assert reservation is not None
    with reservation:
        assert allocator.num_free == 1
    assert allocator.num_free == 4


def test_the_shortest_row_that_suffices_is_taken() -> None:
    allocator = PageAllocator(10)
    parts = [allocator.reserve(num) for num in (2, 1, 3, 1, 3)]
    for part in (parts[0], parts[2], parts[4]):
        assert part is not None
        part.release()
    pages = allocator.reserve(2)
    assert pages is not None
    assert pages.pages == (0, 1)
