import pytest
from support.engine_rig import make_request

from hfx_sgl.engine.sequence import Sequence, SequenceState
from hfx_sgl.engine.waiting import SequenceQueue


def filled(has_priority: bool) -> tuple[SequenceQueue, dict[str, Sequence]]:
    queue = SequenceQueue(has_priority)
    sequences = {}
    for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
        request = make_request(name, 10, priority=priority)
        sequences[name] = Sequence(request, 1, SequenceState.WAITING, 0.0)
        queue.append(sequences[name])
    return queue, sequences


@pytest.mark.parametrize(("has_priority", "order"), [(False, "abcde"), (True, "bdace")])
def test_the_order(has_priority: bool, order: str) -> None:
    queue, sequences = filled(has_priority)
    assert [sequence.request_id for sequence in queue] == list(order)
    assert queue.first() is sequences[order[0]]
    assert queue.last() is sequences[order[-1]]


def test_who_is_taken_out_is_gone() -> None:
    queue, sequences = filled(True)
    assert (len(queue), queue.num_tokens) == (5, 50)
    for name in "bde":
        queue.remove(sequences[name])
    assert [sequence.request_id for sequence in queue] == ["a", "c"]
    assert (len(queue), queue.num_tokens) == (2, 20)


def test_produced_tokens_count() -> None:
    queue, sequences = filled(False)
    queue.remove(sequences["a"])
    sequences["a"].num_outputs = 7
    queue.append(sequences["a"])
    assert queue.num_tokens == 57
    assert queue.last() is sequences["a"]


def test_an_empty_queue_has_no_first() -> None:
    queue = SequenceQueue(True)
    assert queue.first() is None
    assert queue.last() is None
    assert list(queue) == []
