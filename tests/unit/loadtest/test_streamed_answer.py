import pytest
from hypothesis import given
from support.cuts import pieces_of

from hfx_sgl.loadtest.answer import StreamedAnswer

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def chat(text: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text


def follow(*pieces: tuple[bytes, float]) -> StreamedAnswer:
    answer = StreamedAnswer()
    for payload, now_s in pieces:
        answer.feed(payload, now_s)
    answer.close()
    return answer


def test_a_whole_chat_answer() -> None:
    answer = follow(
        (ROLE, 1.0), (chat(b"a"), 2.0), (chat(b"b"), 2.5), (chat(b"c") + FINISH, 4.0),
        (USAGE, 4.5), (DONE, 5.0),
    )  # fmt: skip
    assert (answer.first_at_s, answer.last_at_s) == (2.0, 4.0)
    assert list(answer.itls_s) == [0.5, 1.5]
    assert answer.num_text_events == 3
    assert (answer.output_tokens, answer.prompt_tokens, answer.cached_tokens) == (3, 7, 4)
    assert answer.has_finished
    assert answer.is_done
    assert answer.error is None


def test_the_reason_to_finish_is_the_last_token_when_it_comes_apart() -> None:
    answer = follow((chat(b"a"), 1.0), (FINISH, 1.5), (USAGE, 2.0), (DONE, 3.0))
    assert (answer.first_at_s, answer.last_at_s) == (1.0, 1.5)
    assert not answer.itls_s


def test_events_that_were_read_together_arrived_together() -> None:
    answer = follow((chat(b"a") + chat(b"b"), 1.0), (chat(b"c"), 2.0))
    assert list(answer.itls_s) == [0.0, 1.0]


def test_an_answer_that_holds_only_an_end_of_sequence() -> None:
    answer = follow((ROLE, 1.0), (FINISH, 2.0), (USAGE, 3.0))
    assert (answer.first_at_s, answer.last_at_s, answer.num_text_events) == (2.0, 2.0, 0)


@pytest.mark.parametrize(
    "event",
    [
        chat(b"hello"),
        chat(b'\\"quoted\\"'),
        b'data: {"choices": [{"delta": {"content": "spaced"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":null,"reasoning_content":"hm"}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\n\n',
        b'data: {"choices":[{"index":0,"text":" a","finish_reason":null}]}\n\n',
        b'data: {"text":"a","meta_info":{"completion_tokens":1}}\n\n',
    ],
)
def test_events_with_output(event: bytes) -> None:
    assert follow((event, 1.0)).num_text_events == 1


@pytest.mark.parametrize(
    "event",
    [
        ROLE,
        FINISH,
        USAGE,
        DONE,
        b'data: {"choices":[{"delta":{"content":null}}]}\n\n',
        b'data: {"choices":[{"delta":{"role":"content"},"logprobs":{"content":[]}}]}\n\n',
        b'data: {"note":"content\\":\\"x"}\n\n',
        b": ping\n\n",
    ],
)
def test_events_without_output(event: bytes) -> None:
    answer = follow((event, 1.0))
    assert answer.num_text_events == 0
    assert answer.error is None


def test_generate_counts_in_its_events() -> None:
    event = (
        b'data: {"text":"%b","meta_info":{"id":"x","finish_reason":%b,"prompt_tokens":9,'
        b'"completion_tokens":%d,"cached_tokens":5}}\n\n'
    )
    answer = follow(
        (event % (b"a", b"null", 1), 1.0),
        (event % (b"abc", b"null", 3), 2.0),
        (event % (b"abcd", b'{"type":"length","length":4}', 4), 3.0),
    )
    assert (answer.output_tokens, answer.prompt_tokens, answer.cached_tokens) == (4, 9, 5)
    assert list(answer.itls_s) == [1.0, 1.0]
    assert answer.has_finished


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b'data: {"error":{"message":"boom","code":500}}\n\n', "boom"),
        (b'data: {"object":"error","message":"flat"}\n\n', "flat"),
        (b"data: {broken\n\n", "not JSON"),
        (b"data: 7\n\n", "not an object"),
        (b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\n', "aborted"),
        (b'data: {"text":"a","meta_info":{"finish_reason":{"type":"abort"}}}\n\n', "aborted"),
    ],
)
def test_errors_in_the_stream(event: bytes, message: str) -> None:
    error = follow((chat(b"a"), 1.0), (event, 2.0)).error
    assert error is not None
    assert message in error


def test_output_that_quotes_an_error_is_none() -> None:
    answer = follow((chat(b'{\\"error\\": \\"content\\": \\"x\\"}'), 1.0), (chat(b"error"), 2.0))
    assert answer.error is None
    assert answer.num_text_events == 2


WHOLE = ROLE + chat(b"a") + chat(b"bc") + FINISH + USAGE + DONE


@given(pieces_of(WHOLE))
def test_counts_do_not_depend_on_where_the_stream_is_cut(pieces: list[bytes]) -> None:
    answer = follow(*((piece, float(number)) for number, piece in enumerate(pieces)))
    assert answer.num_text_events == 2
    assert len(answer.itls_s) == 1
    assert (answer.output_tokens, answer.cached_tokens) == (3, 4)
    assert answer.is_done
