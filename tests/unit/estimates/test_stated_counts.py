import json

import pytest
from hfx_router.http1.sse_meter import SseMeter, WholeAnswer

USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 5,
    "total_tokens": 36,
    "prompt_tokens_details": {"cached_tokens": 24},
}
RESPONSES_USAGE = {
    "input_tokens": 31,
    "input_tokens_details": {"cached_tokens": 24},
    "output_tokens": 5,
}
META = {"id": "x", "prompt_tokens": 31, "completion_tokens": 5, "cached_tokens": 24}


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [], "usage": USAGE},
        {"output": [], "usage": RESPONSES_USAGE},
        {"text": "x", "meta_info": META},
    ],
)
def test_an_answer_states_its_prompt(answer: object) -> None:
    whole = WholeAnswer(json.dumps(answer).encode())
    assert whole.num_stated_prompt_tokens == 31
    assert whole.num_stated_cached_tokens == 24
    meter = SseMeter()
    meter.feed(b'data: {"meta_info":{"prompt_tokens":1,"cached_tokens":1}}\n\n')
    meter.feed(b"data: " + json.dumps(answer).encode() + b"\n\ndata: [DONE]\n\n")
    assert meter.num_stated_prompt_tokens == 31
    assert meter.num_stated_cached_tokens == 24


def test_an_answer_that_says_nothing() -> None:
    text = '{"choices":[{"text":"\\"prompt_tokens\\":5 \\"cached_tokens\\":6"}]}'
    whole = WholeAnswer(text.encode())
    assert whole.num_stated_prompt_tokens is None
    assert whole.num_stated_cached_tokens is None
    meter = SseMeter()
    meter.feed(b"data: " + text.encode() + b"\n\n")
    assert meter.num_stated_prompt_tokens is None
    assert meter.num_stated_cached_tokens is None


def test_only_the_end_is_looked_at() -> None:
    whole = WholeAnswer(b'{"prompt_tokens":5,"text":"' + b"x" * 100_000 + b'"}')
    assert whole.num_stated_prompt_tokens is None
