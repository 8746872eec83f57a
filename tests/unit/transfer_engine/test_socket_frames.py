from collections.abc import Callable

import pytest
from hfx_transfer.engine.protocol import Operation
from hfx_transfer.engine.socket import frames
from hypothesis import given
from hypothesis import strategies as st

numbers = st.integers(0, 2**64 - 1)


@given(digest=st.binary(min_size=32, max_size=32), slab_id=numbers, size_bytes=numbers)
def test_a_hello_arrives_as_it_was_sent(digest: bytes, slab_id: int, size_bytes: int) -> None:
    hello = frames.Hello(token_digest=digest, slab_id=slab_id, size_bytes=size_bytes)
    assert frames.decode_hello(frames.encode_hello(hello)) == hello
    assert len(frames.encode_hello(hello)) == frames.HELLO_BYTES


@given(operation=st.sampled_from(Operation), offset=numbers, size_bytes=st.integers(1, 2**64 - 1))
def test_a_request_arrives_as_it_was_sent(
    operation: Operation, offset: int, size_bytes: int
) -> None:
    request = frames.Request(operation=operation, offset=offset, size_bytes=size_bytes)
    assert frames.decode_request(frames.encode_request(request)) == request
    assert len(frames.encode_request(request)) == frames.REQUEST_BYTES


@pytest.mark.parametrize("status", frames.Status)
def test_answers_arrive_as_they_were_sent(status: frames.Status) -> None:
    assert frames.decode_welcome(frames.encode_welcome(status)) is status
    assert frames.decode_reply(frames.encode_reply(status, 77), 77) is status
    assert len(frames.encode_welcome(status)) == frames.WELCOME_BYTES
    assert len(frames.encode_reply(status, 77)) == frames.REPLY_BYTES


@given(frame=st.binary(min_size=frames.HELLO_BYTES, max_size=frames.HELLO_BYTES))
def test_garbage_is_no_hello(frame: bytes) -> None:
    with pytest.raises(frames.FrameError):
        frames.decode_hello(frame)


_HELLO = frames.encode_hello(frames.Hello(token_digest=bytes(32), slab_id=1, size_bytes=2))
_REQUEST = frames.encode_request(frames.Request(operation=Operation.READ, offset=0, size_bytes=5))
DECODERS: list[tuple[Callable[[bytes], object], bytes]] = [
    (frames.decode_hello, _HELLO),
    (frames.decode_welcome, frames.encode_welcome(frames.Status.OK)),
    (frames.decode_request, _REQUEST),
    (lambda frame: frames.decode_reply(frame, 5), frames.encode_reply(frames.Status.OK, 5)),
]


@pytest.mark.parametrize(("decode", "good"), DECODERS, ids=["hello", "welcome", "request", "reply"])
def test_whatever_arrives_is_a_frame_or_a_frame_error(
    decode: Callable[[bytes], object], good: bytes
) -> None:
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        frame = bytearray(good)
        for position in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=4)):
            frame[position] = data.draw(st.integers(0, 255))
        try:
            decode(bytes(frame))
        except frames.FrameError:
            assert bytes(frame) != good

    check()


@pytest.mark.parametrize("size_bytes", [0, 4, 6])
def test_an_answer_to_another_request_is_refused(size_bytes: int) -> None:
    with pytest.raises(frames.FrameError, match="not to 5"):
        frames.decode_reply(frames.encode_reply(frames.Status.OK, size_bytes), 5)


def test_no_token_differs_from_every_token() -> None:
    digests = {frames.token_digest(token) for token in (None, "", "token:", "a", "b")}
    assert len(digests) == 5


def test_every_frame_fills_a_line_of_the_cache() -> None:
    sizes = (frames.HELLO_BYTES, frames.WELCOME_BYTES, frames.REQUEST_BYTES, frames.REPLY_BYTES)
    assert set(sizes) == {64}
