import tracemalloc

import pytest
from hfx_router.http1.sse_meter import SseMeter, WholeAnswer
from support.cuts import cut


def metered(stream: bytes, size_bytes: int | None = None) -> SseMeter:
    meter = SseMeter()
    for piece in cut(stream, size_bytes or max(1, len(stream))):
        meter.feed(piece)
    return meter


@pytest.mark.parametrize(
    ("stream", "num_events"),
    [
        (b"", 0),
        (b"data: {}\n\n", 1),
        (b"data:{}\n\ndata:{}\n\n", 2),
        (b"data: {}\r\n\r\ndata: {}\r\n\r\n", 2),
        (b": comment\n\ndata: {}\n\n", 1),
        (b"event: x\nid: 1\ndata: {}\n\n", 1),
        (b'data: {"text":"data: x data:"}\n\n', 1),
        (b'data: {"text":"\\n\\ndata: x"}\n\n', 1),
        (b"mydata: x\n\n data: y\n\n", 0),
        (b"data: {}\n\ndat", 1),
        (b"data: {}\n\ndata: [DONE]\n\n", 2),
    ],
)
def test_counts_data_lines(stream: bytes, num_events: int) -> None:
    for size_bytes in range(1, len(stream) + 2):
        assert metered(stream, size_bytes).num_events == num_events


@pytest.mark.parametrize(
    ("stream", "is_done"),
    [
        (b"", False),
        (b"data: {}\n\n", False),
        (b"data: {}\n\ndata: [DONE]\n\n", True),
        (b"data: {}\n\ndata: [DONE]", True),
        (b"data: [DONE]\n\ndata: {}\n\n", False),
        (b'data: {"text":"data: [DONE]"}\n\n', False),
    ],
)
def test_done(stream: bytes, is_done: bool) -> None:
    for size_bytes in range(1, len(stream) + 2):
        assert metered(stream, size_bytes).is_done is is_done


@pytest.mark.parametrize(
    ("stream", "at_event_boundary"),
    [
        (b"", True),
        (b"data: {}\n\n", True),
        (b"data: {}\n", False),
        (b"data: {}", False),
        (b"data: {}\n\n:", False),
    ],
)
def test_event_boundary(stream: bytes, at_event_boundary: bool) -> None:
    for size_bytes in range(1, len(stream) + 2):
        assert metered(stream, size_bytes).at_event_boundary is at_event_boundary


EVENT = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":42}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("stream", "num_extra_events", "num_tokens"),
    [
        (b"", 0, 0),
        (EVENT * 5, 0, 5),
        (EVENT * 5 + DONE, 0, 5),
        (EVENT * 5 + DONE, 2, 3),
        (EVENT + DONE, 2, 0),
        (EVENT * 5 + USAGE + DONE, 2, 42),
        (EVENT * 5 + USAGE.replace(b":42", b": 43") + DONE, 2, 43),
        (EVENT * 1000 + USAGE + DONE, 0, 42),
        (EVENT * 1000 + DONE, 0, 1000),
        (b'data: {"text":"a","meta_info":{"completion_tokens":9}}\n\n' * 3, 0, 9),
        (b'data: {"text":"\\"completion_tokens\\": 99"}\n\n' * 3, 0, 3),
    ],
)
def test_output_tokens(stream: bytes, num_extra_events: int, num_tokens: int) -> None:
    for size_bytes in (17, 4096, len(stream) or 1):
        meter = metered(stream, size_bytes)
        assert meter.num_output_tokens(num_extra_events) == num_tokens


def test_a_long_stream_is_not_kept() -> None:
    meter = SseMeter()
    piece = EVENT * 500
    tracemalloc.start()
    for _ in range(100):
        meter.feed(piece)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert meter.num_events == 50_000
    assert kept_bytes < 5 * len(piece), "of a hundred pieces"


def test_of_several_counts_the_last_stands() -> None:
    stream = b"".join(
        b'data: {"meta_info":{"completion_tokens":%d}}\n\n' % number for number in range(1, 12)
    )
    assert metered(stream, 13).num_output_tokens() == 11


@pytest.mark.parametrize(
    ("payload", "num_tokens"),
    [
        (b'{"usage":{"completion_tokens":7}}', 7),
        (b'{"max_output_tokens":9,"usage":{"output_tokens":7}}', 7),
        (b'{"usage":{"completion_tokens": 0}}', 0),
        (b'[{"completion_tokens":1},{"completion_tokens":2}]', 2),
        (b'{"text":"\\"completion_tokens\\":3"}', None),
        (b"{}", None),
    ],
)
@pytest.mark.parametrize("size_bytes", [1, 5, None])
def test_stated_tokens(payload: bytes, size_bytes: int | None, num_tokens: int | None) -> None:
    assert metered(payload, size_bytes).num_stated_tokens == num_tokens


@pytest.mark.parametrize(
    ("payload", "has_failed"),
    [
        (b'data: {"text":"a"}\n\ndata: [DONE]\n\n', False),
        (b'data: {"error":{"message":"m"}}\n\n', True),
        (b'data: {"text":"a"}\n\ndata:{"error": {"message":"m"}}\n\ndata: [DONE]\n\n', True),
        (b'data: {"object":"error","message":"m"}\n\n', True),
        (b'data: {"object":"chat.completion.chunk","error":null}\n\n', False),
        (b'data: {"choices":[{"finish_reason":"abort"}]}\n\n', True),
        (b'data: {"meta_info":{"finish_reason":{"type":"abort","message":"m"}}}\n\n', True),
        (b'data: {"meta_info":{"finish_reason": {"type": "length"}}}\n\n', False),
        (b'{"meta_info":{"finish_reason": {"type": "abort"}}}', True),
        (b'data: {"text":"\\"finish_reason\\":\\"abort\\""}\n\n', False),
        (b'data: {"text":"data: {\\"error\\""}\n\n', False),
    ],
)
@pytest.mark.parametrize("size_bytes", [1, 5, None])
def test_failures_behind_a_good_status(
    payload: bytes, size_bytes: int | None, has_failed: bool
) -> None:
    assert metered(payload, size_bytes).has_failed is has_failed


@pytest.mark.parametrize(
    ("body", "num_tokens", "has_failed"),
    [
        (b"{}", None, False),
        (b'{"usage":{"completion_tokens":3,"total_tokens":9}}', 3, False),
        (b'{"usage":{"completion_tokens": 3}},{"usage":{"output_tokens":4}}', 4, False),
        (b'{"text":"\\"completion_tokens\\":3"}', None, False),
        (b'{"choices":[{"finish_reason":"abort"}],"usage":{"completion_tokens":1}}', 1, True),
        (b'{"meta_info":{"finish_reason": {"type": "abort","message":"m"}}}', None, True),
        (b'{"text":"abort","meta_info":{"finish_reason":{"type":"stop"}}}', None, False),
        (b'{"text":"\\"finish_reason\\":\\"abort\\""}', None, False),
        (b'{"completion_tokens":7,"x":"' + 5000 * b"a" + b'"}', None, False),
        (5000 * b"a" + b'"finish_reason":"abort","completion_tokens":7}', 7, True),
    ],
)
def test_an_answer_in_one_piece(body: bytes, num_tokens: int | None, has_failed: bool) -> None:
    answer = WholeAnswer(body)
    assert answer.num_stated_tokens == num_tokens
    assert answer.has_failed is has_failed
