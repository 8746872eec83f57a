import base64
import json
from typing import Any

import pytest

from hfx_sgl.policy.estimates.prompt_size import PromptSize, size_of


def dumped(value: Any, **options: Any) -> bytes:
    return json.dumps(value, **options).encode()


@pytest.mark.parametrize(
    ("value", "num_ids"),
    [
        ([5], 1),
        ([5, 6, 7], 3),
        ([[5, 6, 7], [8]], 4),
        ([[5], [6], [7]], 3),
        ([0] * 1000, 1000),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n ", ":")])
def test_token_ids_are_counted(value: Any, num_ids: int, separators: tuple[str, str]) -> None:
    assert size_of(dumped(value, separators=separators)) == PromptSize(0, 0, num_ids)


@pytest.mark.parametrize(
    "value", ["", "hello", ["one", "two, three"], [{"role": "user", "content": "hi, 1, 2"}], []]
)
def test_text_counts_in_bytes(value: Any) -> None:
    text = dumped(value)
    assert size_of(text) == PromptSize(len(text), 0, None)


def test_no_prompt_is_nothing() -> None:
    assert size_of(b"") == PromptSize(0, 0, None)


@pytest.mark.parametrize("length", [20, 200, 5_000])
def test_escaped_letters_count_as_their_utf8(length: int) -> None:
    text = "\u4f60\u597d\u4e16\u754c" * length
    escaped = size_of(dumped(text)).text_bytes
    plain = size_of(dumped(text, ensure_ascii=False)).text_bytes
    assert escaped == pytest.approx(plain, rel=0.02)


@pytest.mark.parametrize("scheme", ["image_url", "video_url"])
def test_embedded_media_count_as_media(scheme: str) -> None:
    def chat(url: str) -> bytes:
        parts = [
            {"type": "text", "text": "what is this?"},
            {"type": scheme, scheme: {"url": url}},
            {"type": scheme, scheme: {"url": "https://example.org/cat.png"}},
        ]
        return dumped([{"role": "user", "content": parts}])

    data = base64.b64encode(bytes(30_000)).decode()
    size = size_of(chat(f"data:image/png;base64,{data}"))
    assert size.num_media == 2
    assert size.text_bytes == len(chat("data:image/png"))


def test_text_that_speaks_of_media_is_text() -> None:
    text = dumped([{"role": "user", "content": '{"image_url": "data:x;base64,AAAA"}'}])
    assert size_of(text) == PromptSize(len(text), 0, None)


def test_a_chat_s_tools_are_part_of_it() -> None:
    chat = dumped([{"role": "user", "content": "hi"}])
    tools = dumped([{"type": "function", "function": {"name": "f", "description": "x" * 500}}])
    assert size_of(chat, tools).text_bytes == len(chat) + len(tools)
