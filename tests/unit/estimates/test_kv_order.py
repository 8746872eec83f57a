import pytest

from hfx_sgl.policy.estimates.kv_order import Hearing, MessageOrder

NEXT, REPEATED, GAP, RESTARTED = (
    Hearing.NEXT, Hearing.REPEATED, Hearing.GAP, Hearing.RESTARTED,
)  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "hearings"),
    [
        ([(0, 1.0), (1, 1.0), (2, 2.0)], [NEXT, NEXT, NEXT]),
        ([(3, 1.0)], [GAP]),
        ([(0, 1.0), (2, 2.0), (1, 1.5), (2, 2.0)], [NEXT, GAP, NEXT, NEXT]),
        ([(0, 1.0), (1, 2.0), (0, 1.0), (1, 2.0)], [NEXT, NEXT, REPEATED, REPEATED]),
        ([(0, 1.0), (1, 2.0), (0, 9.0)], [NEXT, NEXT, RESTARTED]),
    ],
)
def test_messages_are_heard_once_and_in_order(
    messages: list[tuple[int, float]], hearings: list[Hearing]
) -> None:
    order = MessageOrder()
    assert [order.hear(number, stamp_s) for number, stamp_s in messages] == hearings


def test_what_is_missed_can_be_given_up() -> None:
    order = MessageOrder()
    order.skip_to(5)
    assert order.next_number == 5
    assert order.hear(5, 1.0) is NEXT
    assert order.next_number == 6
