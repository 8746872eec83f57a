import pytest

from hfx_sgl.emulator.pd.messages import Message, Topic, decode_message
from hfx_sgl.emulator.pd.prefill_rooms import PrefillRooms


class Book:
    """Rooms, and what was called."""

    def __init__(self) -> None:
        self.granted: list[tuple[str, str | None]] = []
        self.failed: list[str] = []
        self.told: list[Message] = []
        self.tell = self.told.append
        self.rooms = PrefillRooms(self._grant, self.failed.append)

    def _grant(self, rid: str, offer: str | None) -> None:
        self.granted.append((rid, offer))

    def receive(self, topic: Topic, room: int = 7, offer: str | None = None) -> None:
        self.rooms.receive(Message(topic, room, offer=offer), self.tell)


@pytest.mark.parametrize("decode_is_first", [True, False])
def test_either_side_may_come_first(decode_is_first: bool) -> None:
    book = Book()
    if decode_is_first:
        book.receive(Topic.GRANTED, offer="there")
    assert not book.rooms.has(7)
    book.rooms.enter(7, "a")
    if not decode_is_first:
        assert book.granted == []
        book.receive(Topic.GRANTED, offer="there")
    assert book.granted == [("a", "there")]
    book.rooms.sent(7, 32)
    book.rooms.left(7)
    assert book.told == [Message(Topic.SENT, 7, 32)]
    assert len(book.rooms) == 0


def test_a_request_that_ends_early_is_told_to_the_decode() -> None:
    book = Book()
    book.rooms.enter(7, "a")
    book.receive(Topic.GRANTED)
    book.rooms.left(7)
    assert book.told == [Message(Topic.FAILED, 7)]


def test_nobody_is_told_of_a_room_that_nobody_waits_for() -> None:
    book = Book()
    book.rooms.enter(7, "a")
    book.rooms.left(7)
    assert book.told == []
    assert len(book.rooms) == 0


@pytest.mark.parametrize("request_is_first", [True, False])
def test_a_decode_that_gives_up_fails_the_request(request_is_first: bool) -> None:
    book = Book()
    if request_is_first:
        book.rooms.enter(7, "a")
    book.receive(Topic.WITHDRAWN)
    if not request_is_first:
        assert book.failed == []
        book.rooms.enter(7, "a")
    assert book.failed == ["a"]
    assert len(book.rooms) == 0


def test_a_lost_decode_fails_its_own_requests_only() -> None:
    book = Book()
    for room, rid in ((7, "a"), (8, "b"), (9, "c")):
        book.rooms.enter(room, rid)
    book.receive(Topic.GRANTED, 7)
    book.receive(Topic.GRANTED, 8)
    theirs: list[Message] = []
    book.rooms.receive(Message(Topic.GRANTED, 9), theirs.append)
    book.rooms.lost(book.tell)
    assert book.failed == ["a", "b"]
    book.rooms.sent(9, 0)
    assert theirs == [Message(Topic.SENT, 9)]
    assert book.told == []


def test_messages_survive_the_wire() -> None:
    for message in (Message(Topic.SENT, 2**62 + 1, 48), Message(Topic.GRANTED, 3, offer="there")):
        assert decode_message(message.encode()) == message


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"topic": "sent"}', '{"topic": "x", "room": 1}', "x"]
)
def test_other_texts_are_no_messages(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_message(text)
