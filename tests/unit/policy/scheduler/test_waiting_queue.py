import pytest
from support.scheduling import entry

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.hits import Hits
from hfx_sgl.policy.scheduler.queue import WaitingQueue


def empty_queue() -> WaitingQueue:
    return WaitingQueue(Hits(2.0))


def ignore(entry: Entry) -> None:
    """Nothing has changed."""


def sequences(queue: WaitingQueue, now_s: float, num_entries: int = 10) -> list[int]:
    return [found.sequence for found in queue.urgent(num_entries, now_s, ignore)[0]]


def test_urgent_goes_by_deadline_then_by_arrival() -> None:
    queue = empty_queue()
    for sequence, deadline_s in enumerate([9.0, 7.0, 8.0, 7.0]):
        queue.add(entry(sequence, deadline_s=deadline_s))
    assert sequences(queue, 0.0) == [1, 3, 2, 0]
    assert sequences(queue, 0.0, num_entries=2) == [1, 3]
    assert len(queue) == 4


def test_those_that_cannot_be_on_time_make_place_in_the_window() -> None:
    queue = empty_queue()
    for sequence in range(4):
        queue.add(entry(sequence, deadline_s=5.0 + sequence, service_s=2.0))
    assert sequences(queue, 4.5, num_entries=2) == [2, 3]
    assert (queue.num_demoted, len(queue)) == (2, 4)


def test_on_time_to_the_last_moment() -> None:
    queue = empty_queue()
    queue.add(entry(0, deadline_s=5.0, service_s=2.0))
    assert sequences(queue, 3.0) == [0]
    assert sequences(queue, 3.01) == []


def test_oldest_and_shortest_of_the_demoted() -> None:
    queue = empty_queue()
    assert (queue.oldest_demoted(), queue.shortest_demoted(1)) == (None, [])
    entries = [
        entry(sequence, deadline_s=1.0 - sequence / 10, service_s=service_s)
        for sequence, service_s in enumerate([4.0, 3.0, 2.0, 3.0])
    ]
    for added in entries:
        queue.add(added)
    assert sequences(queue, 1.0) == []
    gone = []
    while shortest := queue.shortest_demoted(1):
        oldest = queue.oldest_demoted()
        assert oldest is entries[0]
        queue.remove(shortest[0])
        gone.append(shortest[0].sequence)
    assert gone == [2, 1, 3, 0]
    assert queue.oldest_demoted() is None
    assert len(queue) == 0


def test_the_next_oldest_follows_one_that_left() -> None:
    queue = empty_queue()
    entries = [entry(sequence, deadline_s=0.5) for sequence in range(3)]
    for added in reversed(entries):
        queue.add(added)
    queue.urgent(10, 1.0, ignore)
    queue.remove(entries[0])
    assert queue.oldest_demoted() is entries[1]


def test_a_demoted_one_is_found_after_its_service_time_changed() -> None:
    queue = empty_queue()
    entries = [
        entry(sequence, deadline_s=0.5, service_s=float(1 + sequence)) for sequence in range(3)
    ]
    for added in entries:
        queue.add(added)
    queue.urgent(10, 1.0, ignore)
    entries[0].service_s = 50.0
    queue.remove(entries[0])
    assert queue.shortest_demoted(1) == [entries[1]]
    assert queue.num_demoted == 2


def test_one_that_became_feasible_again_comes_back_by_removing_and_adding() -> None:
    queue = empty_queue()
    added = entry(0, deadline_s=5.0, service_s=5.0)
    queue.add(added)
    assert sequences(queue, 1.0) == []
    queue.remove(added)
    added.service_s = 1.0
    queue.add(added)
    assert sequences(queue, 1.0) == [0]
    assert queue.num_demoted == 0


@pytest.mark.parametrize("now_s", [0.0, 100.0])
def test_removing_twice_is_an_error(now_s: float) -> None:
    queue = empty_queue()
    added = entry(0)
    queue.add(added)
    queue.add(entry(1))
    queue.urgent(10, now_s, ignore)
    queue.remove(added)
    with pytest.raises(KeyError, match="r0"):
        queue.remove(added)
    assert len(queue) == 1


def test_hits_are_those_of_the_feasible() -> None:
    queue = empty_queue()
    entries = [entry(sequence, deadline_s=5.0 + sequence, service_s=2.0) for sequence in range(3)]
    for added in entries:
        added.home_id, added.uncached_s = "w0", 6.0
        queue.add(added)
    assert queue.hits.of("w0", entries[2]) == entries
    queue.remove(entries[1])
    assert sequences(queue, 4.0) == [2]
    assert queue.hits.of("w0", entries[2]) == [entries[2]]
