"""Who holds which pages of a pool. Each page is free or belongs to one reservation."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self


class PageRun(NamedTuple):
    """Pages in a row."""

    first_page: int
    num_pages: int


def runs_of(pages: Sequence[int]) -> list[PageRun]:
    """Return pages as runs, in their order."""
    runs: list[PageRun] = []
    for page in pages:
        if runs and sum(runs[-1]) == page:
            runs[-1] = PageRun(runs[-1].first_page, runs[-1].num_pages + 1)
        else:
            runs.append(PageRun(page, 1))
    return runs


def pages_of(runs: Sequence[PageRun]) -> tuple[int, ...]:
    """Return the pages of runs, in their order."""
    return tuple(page for first, num in runs for page in range(first, first + num))


class Reservation:
    """Pages that belong to whoever holds this, until `release`, or the end of its `with`."""

    def __init__(
        self, pages: tuple[int, ...], give_back: Callable[[tuple[int, ...]], None]
    ) -> None:
        self.pages = pages
        self._give_back = give_back
        self._lock = threading.Lock()
        self._is_released = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def is_released(self) -> bool:
        """Whether the pages have gone back."""
        return self._is_released

    def release(self) -> None:
        """Give the pages back; twice is once."""
        with self._lock:
            if self._is_released:
                return
            self._is_released = True
        self._give_back(self.pages)


class PageAllocator:
    """Gives out pages 0 to `num_pages` - 1, in rows as long as it finds. Thread-safe.

    Args:
        on_release: called after pages have come back, by the thread that gave them back.
    """

    def __init__(self, num_pages: int, *, on_release: Callable[[], None] | None = None) -> None:
        if num_pages < 1:
            raise ValueError(f"num_pages must be at least 1 ({num_pages})")
        self._num_pages = num_pages
        self._lock = threading.Lock()
        # In order of pages, never touching each other.
        self._free = [PageRun(0, num_pages)]
        self._num_free = num_pages
        self._on_release = on_release

    @property
    def num_pages(self) -> int:
        """How many there are."""
        return self._num_pages

    @property
    def num_free(self) -> int:
        """How many nobody holds."""
        return self._num_free

    def reserve(self, num_pages: int) -> Reservation | None:
        """Take so many pages, at least 1; None when there are not enough."""
        if num_pages < 1:
            raise ValueError(f"num_pages must be at least 1 ({num_pages})")
        with self._lock:
            if num_pages > self._num_free:
                return None
            pages = pages_of(self._take(num_pages))
        return Reservation(pages, self._put_back)

    def _take(self, num_pages: int) -> list[PageRun]:
        """Return runs from the free ones: the shortest that suffices, or else the longest."""
        self._num_free -= num_pages
        fitting = [run for run in self._free if run.num_pages >= num_pages]
        if fitting:
            chosen = [min(fitting, key=lambda run: run.num_pages)]
        else:
            chosen = sorted(self._free, key=lambda run: run.num_pages, reverse=True)
        taken: list[PageRun] = []
        for run in chosen:
            used = min(num_pages, run.num_pages)
            taken.append(PageRun(run.first_page, used))
            at = bisect_left(self._free, run)
            if used == run.num_pages:
                del self._free[at]
            else:
                self._free[at] = PageRun(run.first_page + used, run.num_pages - used)
            num_pages -= used
            if num_pages == 0:
                break
        return taken

    def _put_back(self, pages: tuple[int, ...]) -> None:
        with self._lock:
            for run in runs_of(sorted(pages)):
                self._insert(run)
            self._num_free += len(pages)
        if self._on_release is not None:
            self._on_release()

    def _insert(self, run: PageRun) -> None:
        at = bisect_left(self._free, run)
        first, num = run
        if at < len(self._free) and self._free[at].first_page == first + num:
            num += self._free.pop(at).num_pages
        if at > 0 and sum(self._free[at - 1]) == first:
            at -= 1
            before = self._free.pop(at)
            first, num = before.first_page, before.num_pages + num
        self._free.insert(at, PageRun(first, num))
