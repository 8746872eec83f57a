import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cuts import pieces_of

from hfx_sgl.loadtest.event_splitter import EventSplitter

STREAM = (
    b": comment\n\n"
    b'data: {"text":"a"}\n\n'
    b'event: x\r\ndata:{"text":"b"}\r\n\r\n'
    b"data: one\ndata: two\n\n"
    b"\n\n"
    b"data:\n\n"
    b"data: [DONE]\n\n"
    b"data: cut"
)
EVENTS = [b'{"text":"a"}', b'{"text":"b"}', b"one", b"two", b"", b"[DONE]"]


def split(pieces: list[bytes]) -> list[bytes]:
    splitter = EventSplitter()
    return [event for piece in pieces for event in splitter.feed(piece)]


def test_every_data_line_is_an_event() -> None:
    assert split([STREAM]) == EVENTS


@given(pieces_of(STREAM))
def test_it_does_not_matter_where_the_stream_is_cut(pieces: list[bytes]) -> None:
    assert split(pieces) == EVENTS


@given(st.data())
def test_any_bytes_give_the_same_events_however_cut(data: st.DataObject) -> None:
    lines = st.sampled_from(
        [b"data: x", b"data:y ", b"", b"event: z", b"xdata: no", b"data", b"\r"]
    )
    stream = b"\n".join(data.draw(st.lists(lines, max_size=12)))
    assert split(data.draw(pieces_of(stream))) == split([stream])


@pytest.mark.parametrize("piece", [b"data: x", b"data: x\r"])
def test_an_event_is_complete_with_its_line_feed(piece: bytes) -> None:
    splitter = EventSplitter()
    assert splitter.feed(piece) == []
    assert splitter.feed(b"\n") == [b"x"]
