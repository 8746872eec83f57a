import json
from typing import Any

from hfx_router.http1.sse_meter import SseMeter
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuts import pieces_of

TEXTS = st.sampled_from(
    ["a", "data: x", "\n\ndata: y", "\r\ndata:", "[DONE]", "data: [DONE]", '"completion_tokens": 9',
     "\\", "\u2028data: z", "é"]
) | st.text(max_size=5)  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["data", "data", "data", "usage", "comment", "named"]))
    if kind == "comment":
        return ": data: ping\n\n"
    event: dict[str, Any] = {"choices": [{"delta": {"content": draw(TEXTS)}}]}
    if kind == "usage":
        event["usage"] = {"prompt_tokens": 3, "completion_tokens": draw(st.integers(0, 999))}
    text = json.dumps(
        event,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": ")])),
    )
    prefix = "event: message\nid: 1\n" if kind == "named" else ""
    return f"{prefix}data:{draw(st.sampled_from(['', ' ']))}{text}\n\n"


def read(stream: str) -> list[str]:
    """What a reader of the whole stream understands by its data lines."""
    lines = stream.split("\n")
    return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]


@given(st.lists(events(), max_size=8), st.booleans(), st.integers(0, 2), st.data())
@settings(max_examples=200, deadline=None)
def test_the_meter_agrees_with_a_reader_of_the_whole_stream(
    parts: list[str], is_done: bool, num_extra_events: int, data: st.DataObject
) -> None:
    stream = "".join(parts) + ("data: [DONE]\n\n" if is_done else "")
    meter = SseMeter()
    for piece in data.draw(pieces_of(stream.encode())):
        meter.feed(piece)
    lines = read(stream)
    assert meter.num_events == len(lines)
    assert meter.is_done is is_done
    assert meter.at_event_boundary
    answers = [json.loads(line) for line in lines if line != "[DONE]"]
    counts = [answer["usage"]["completion_tokens"] for answer in answers if "usage" in answer]
    num_tokens = counts[-1] if counts else max(0, len(answers) - num_extra_events)
    assert meter.num_output_tokens(num_extra_events) == num_tokens


@given(st.lists(st.sampled_from([b"data:", b"\n", b"\r", b"x", b"[DONE]", b" "])), st.data())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_counted_alike_however_they_are_cut(
    fragments: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(fragments)
    whole, cut = SseMeter(), SseMeter()
    whole.feed(stream)
    for piece in data.draw(pieces_of(stream)):
        cut.feed(piece)
    assert whole.num_events == (b"\n" + stream).count(b"\ndata:")
    for meter in (whole, cut):
        assert meter.num_events == whole.num_events
        assert meter.is_done is whole.is_done
        assert meter.at_event_boundary is whole.at_event_boundary


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=12), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_the_last_count_is_found_behind_any_amount_of_stream(
    sizes_bytes: list[int], num_tokens: int
) -> None:
    meter = SseMeter()
    for size_bytes in sizes_bytes:
        meter.feed(b'data: {"text":"%b"}\n\n' % (b"x" * size_bytes))
    meter.feed(b'data: {"usage":{"completion_tokens":%d}}\n\n' % num_tokens)
    meter.feed(b"data: [DONE]\n\n")
    assert meter.num_events == len(sizes_bytes) + 2
    assert meter.num_output_tokens() == num_tokens
