import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from support.client_side import ClientSide, get, post
from support.cuts import pieces_of

ENDINGS = st.sampled_from([b"", b"", b"nonsense\r\n\r\n", b"POST /last HTTP/1.1\r\ncontent-l"])


@given(st.integers(0, 6), ENDINGS, st.data())
@settings(max_examples=100, deadline=None)
async def test_answers_come_one_by_one_in_order(
    num_requests: int, ending: bytes, data: st.DataObject
) -> None:
    """Whenever bytes arrive, handlers finish, and the client reads or does not."""
    side = ClientSide()
    sent = [
        get(f"/{number}") if data.draw(st.booleans()) else post(f"/{number}")
        for number in range(num_requests)
    ]
    pieces = data.draw(pieces_of(b"".join(sent) + ending))
    num_answered, is_paused = 0, False
    while True:
        has_handler = len(side.handlers) > num_answered
        steps = [
            *(["receive"] if pieces else []),
            *(["answer"] if has_handler else []),
            "resume" if is_paused else "pause",
        ]
        if steps == ["pause"]:
            break
        step = data.draw(st.sampled_from(steps))
        if step == "receive":
            side.send(pieces.pop(0))
        elif step == "answer":
            side.handlers[-1].answer(b"<%d>" % num_answered)
            num_answered += 1
        else:
            is_paused = step == "pause"
            (side.connection.pause_writing if is_paused else side.connection.resume_writing)()
            assert not has_handler or side.handlers[-1].is_paused is is_paused
        if data.draw(st.booleans()) or steps == ["resume"]:
            await asyncio.sleep(0)
        assert len(side.handlers) - num_answered in (0, 1), "one at a time"
        assert all(handler.is_started for handler in side.handlers)
        if not (pieces or is_paused or len(side.handlers) > num_answered):
            await asyncio.sleep(0)
    assert side.paths == [b"/%d" % number for number in range(num_requests)]
    answers, _, error = side.transport.taken().partition(b"HTTP/1.1 400 ")
    assert answers == b"".join(b"<%d>" % number for number in range(num_requests))
    is_broken = ending.startswith(b"nonsense")
    assert bool(error) is is_broken
    assert side.transport.has_ended is is_broken
    if not is_broken:
        assert side.connection.is_idle is (not ending)
