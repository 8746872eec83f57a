import random

from support.scheduling import entry

from hfx_sgl.policy.scheduler.by_deadline import ByDeadline
from hfx_sgl.policy.scheduler.entry import Entry


def test_the_most_urgent_is_first_and_ties_go_by_arrival() -> None:
    entries = [entry(sequence, deadline_s=at_s) for sequence, at_s in enumerate([9.0, 7.0, 7.0])]
    order = ByDeadline()
    for added in reversed(entries):
        order.add(added)
    assert order.entries == [entries[1], entries[2], entries[0]]


def test_who_is_not_here_is_not_taken_out() -> None:
    order = ByDeadline()
    here = entry(1, deadline_s=7.0)
    order.add(here)
    assert not order.discard(entry(0, deadline_s=7.0))
    assert not order.discard(entry(2, deadline_s=8.0))
    assert order.discard(here)
    assert not order.discard(here)


def test_until_includes_the_last_and_needs_it_not() -> None:
    entries = [entry(sequence, deadline_s=sequence / 2) for sequence in range(6)]
    order = ByDeadline()
    for added in entries[::2]:
        order.add(added)
    assert order.until(entries[2]) == [entries[0], entries[2]]
    assert order.until(entries[3]) == [entries[0], entries[2]]
    assert order.until(entry(9, deadline_s=-1.0)) == []


def test_stays_in_order_whatever_happens() -> None:
    rng = random.Random(5)
    entries = [entry(sequence, deadline_s=float(rng.randrange(6))) for sequence in range(30)]
    order = ByDeadline()
    here: list[Entry] = []
    for _ in range(1000):
        chosen = rng.choice(entries)
        assert order.discard(chosen) == (chosen in here)
        if chosen in here:
            here.remove(chosen)
        elif rng.random() < 0.7:
            order.add(chosen)
            here.append(chosen)
        assert order.entries == sorted(here, key=lambda one: one.key)
        assert order.until(chosen) == [one for one in order.entries if one.key <= chosen.key]
