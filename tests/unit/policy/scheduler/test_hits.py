import random

from support.scheduling import entry

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.hits import Hits

LAST = entry(999, deadline_s=1e9)


def judge(waiting: Entry, home_id: str | None, service_s: float) -> None:
    """All of its prompt takes 3 s."""
    waiting.home_id, waiting.service_s, waiting.uncached_s = home_id, service_s, 3.0


def judged(sequence: int, home_id: str | None, service_s: float) -> Entry:
    made = entry(sequence, deadline_s=10.0 - sequence)
    judge(made, home_id, service_s)
    return made


def test_only_a_prefix_that_saves_much_counts() -> None:
    hits = Hits(2.0)
    much, little, none = judged(0, "w0", 1.0), judged(1, "w0", 1.01), judged(2, None, 1.0)
    for added in (much, little, none):
        hits.add(added)
    assert hits.home_ids == {"w0"}
    assert hits.of("w0", LAST) == [much]
    assert (hits.is_much(much), hits.is_much(little)) == (True, False)


def test_those_of_a_worker_are_in_order_of_deadline_up_to_a_certain_one() -> None:
    hits = Hits(2.0)
    entries = [judged(sequence, "w0", 0.5) for sequence in range(3)]
    for added in entries:
        hits.add(added)
    assert hits.of("w0", LAST) == entries[::-1]
    assert hits.of("w0", entries[1]) == [entries[2], entries[1]]


def test_follows_what_is_found_later() -> None:
    hits = Hits(2.0)
    waiting = judged(0, None, 3.0)
    hits.add(waiting)
    assert not hits.home_ids
    judge(waiting, "w0", 0.5)
    hits.update(waiting)
    assert hits.home_ids == {"w0"}
    judge(waiting, "w1", 0.4)
    hits.update(waiting)
    assert hits.home_ids == {"w1"}
    judge(waiting, "w1", 2.0)
    hits.update(waiting)
    assert not hits.home_ids


def test_who_does_not_wait_is_not_heeded() -> None:
    hits = Hits(2.0)
    gone = judged(0, "w0", 0.5)
    hits.update(gone)
    assert not hits.home_ids
    hits.add(gone)
    hits.discard(gone)
    hits.discard(gone)
    hits.update(gone)
    assert not hits.home_ids


def test_agrees_with_a_look_at_each_whatever_happens() -> None:
    rng = random.Random(7)
    hits = Hits(1.0)
    entries = [judged(sequence, None, 3.0) for sequence in range(20)]
    waiting: set[int] = set()
    for _ in range(1500):
        chosen = rng.choice(entries)
        what = rng.randrange(3)
        if what == 0:
            hits.discard(chosen)
            waiting.discard(chosen.sequence)
        else:
            judge(chosen, rng.choice([None, "w0", "w1", "w2"]), rng.choice([0.5, 1.5, 2.0]))
            hits.update(chosen)
            if what == 1 and chosen.sequence not in waiting:
                hits.add(chosen)
                waiting.add(chosen.sequence)
        expected: dict[str, list[Entry]] = {}
        for one in reversed(entries):
            if one.sequence in waiting and one.home_id is not None and one.service_s <= 1.5:
                expected.setdefault(one.home_id, []).append(one)
        assert {home_id: hits.of(home_id, LAST) for home_id in hits.home_ids} == expected
