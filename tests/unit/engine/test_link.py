import math

import pytest

from hfx_sgl.engine.link import SharedLink

LATENCY_S = 0.5


def make_link() -> SharedLink:
    return SharedLink(bytes_per_s=100, latency_s=LATENCY_S)


def send(link: SharedLink, transfer_id: str, num_bytes: int, now_s: float) -> None:
    link.start(transfer_id, num_bytes, now_s)
    link.close(transfer_id, now_s)


def test_alone_it_has_the_whole_link() -> None:
    link = make_link()
    assert link.next_completion_s() == math.inf
    send(link, "a", 200, 1.0)
    assert link.next_completion_s() == 3.5
    assert link.advance(3.4) == []
    assert link.num_transfers == 1
    assert link.advance(3.5) == [(3.5, "a")]
    assert link.advance(9.0) == []
    assert link.num_transfers == 0


def test_two_share_it_while_both_send() -> None:
    link = make_link()
    send(link, "a", 200, 0.0)
    send(link, "b", 200, 1.0)
    # 100 bytes of a are left at 1; both get 50 bytes/s until 3; then b has 100 bytes left.
    assert link.advance(10.0) == [(3.5, "a"), (4.5, "b")]


def test_equal_ones_are_done_in_the_order_of_their_start() -> None:
    link = make_link()
    for transfer_id in "bac":
        send(link, transfer_id, 100, 0.0)
    assert link.advance(3.5) == [(3.5, "b"), (3.5, "a"), (3.5, "c")]


def test_equal_ones_are_done_at_the_same_instant() -> None:
    link = SharedLink(bytes_per_s=11, latency_s=0.0)
    send(link, "other", 342, 0.0)
    for i in range(5):
        send(link, f"t{i}", 298, 0.0)
    assert len({at_s for at_s, transfer_id in link.advance(999.0) if transfer_id != "other"}) == 1


def test_an_open_one_is_not_done() -> None:
    link = make_link()
    link.start("a", 100, 0.0)
    assert link.advance(5.0) == []
    link.add_bytes("a", 100, 5.0)
    link.close("a", 5.5)
    assert link.next_completion_s() == 6.5
    assert link.advance(6.5) == [(6.5, "a")]


def test_closing_after_the_last_byte_counts_from_the_closing() -> None:
    link = make_link()
    link.start("a", 100, 0.0)
    link.close("a", 4.0)
    assert link.next_completion_s() == 4.5


def test_an_open_one_without_bytes_takes_no_bandwidth() -> None:
    link = make_link()
    link.start("open", 100, 0.0)
    send(link, "a", 200, 0.0)
    # Both get 50 bytes/s until 2; then a has the link for its other 100 bytes.
    assert link.next_completion_s() == 2.5, "the open one is out of bytes before: a lower bound"
    assert link.advance(2.5) == []
    assert link.next_completion_s() == 3.5
    assert link.advance(3.5) == [(3.5, "a")]


def test_bytes_may_be_added_while_it_sends() -> None:
    link = make_link()
    link.start("a", 100, 0.0)
    send(link, "b", 150, 0.0)
    link.add_bytes("a", 100, 1.0)
    link.close("a", 1.0)
    # b is done with its 150 bytes at 3; a has 50 left.
    assert link.advance(9.0) == [(3.5, "b"), (4.0, "a")]


def test_a_cancelled_one_leaves_the_link_to_the_others() -> None:
    link = make_link()
    send(link, "a", 1000, 0.0)
    send(link, "b", 200, 0.0)
    link.cancel("a", 2.0)
    assert link.advance(9.0) == [(3.5, "b")]
    assert link.num_transfers == 0


def test_one_that_is_sent_can_still_be_cancelled() -> None:
    link = make_link()
    send(link, "a", 100, 0.0)
    link.advance(1.2)
    link.cancel("a", 1.3)
    assert link.next_completion_s() == math.inf
    assert link.advance(9.0) == []


def test_nothing_to_send_takes_the_latency() -> None:
    link = make_link()
    send(link, "a", 0, 2.0)
    assert link.advance(2.5) == [(2.5, "a")]


def test_an_id_may_come_back() -> None:
    link = make_link()
    send(link, "a", 100, 0.0)
    link.cancel("a", 0.5)
    send(link, "a", 100, 1.0)
    assert link.advance(9.0) == [(2.5, "a")]


def test_asking_changes_nothing() -> None:
    link = SharedLink(bytes_per_s=3, latency_s=0.1)
    for i in range(7):
        send(link, f"t{i}", 10 + i, i / 7)
    foreseen_s = link.next_completion_s()
    for i in range(100):
        assert link.advance(1.0 + i / 100) == []
    assert link.next_completion_s() == foreseen_s
    assert [at_s for at_s, _ in link.advance(foreseen_s)] == [foreseen_s]


def test_names_must_be_right() -> None:
    link = make_link()
    send(link, "a", 100, 0.0)
    with pytest.raises(KeyError, match="under way"):
        link.start("a", 1, 0.0)
    with pytest.raises(KeyError, match="closed"):
        link.add_bytes("a", 1, 0.0)
    with pytest.raises(KeyError):
        link.cancel("b", 0.0)
    link.close("a", 0.0)
    assert link.advance(9.0) == [(1.5, "a")], "closing twice changes nothing"
