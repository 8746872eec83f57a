"""The links between this router's workers as a scrape shows them."""

from collections.abc import Iterator

from hfx_transfer.metrics import LinkCensus, LinkReading

from hfx_router.metrics.labels import clean
from hfx_router.workers.registry import Registry
from hfx_sgl.policy.pairs.book import INCOMPATIBLE, PairBook


def link_census(book: PairBook, registry: Registry) -> LinkCensus:
    """Return what a scrape shows."""
    return LinkCensus(
        counts=book.counts(),
        changes={(old.value, new.value): n for (old, new), n in book.num_changes.items()},
        remarkable=_readings(book, registry),
    )


def _readings(book: PairBook, registry: Registry) -> Iterator[LinkReading]:
    for one in book.remarkable():
        prefill, decode = registry.get(one.prefill_id), registry.get(one.decode_id)
        if prefill is not None and decode is not None:
            state = INCOMPATIBLE if one.problem else one.state.value
            yield LinkReading(clean(prefill.shown_url), clean(decode.shown_url), state)
