"""How much there is of a prompt, seen from its JSON text without parsing it.

A few looks at the bytes, so that a request costs a microsecond or two here. What JSON adds to a
text (quotes, roles, escaped line ends) stays in the count: it grows with the text, and the ratio
of bytes to tokens is learned with it.
"""

from typing import NamedTuple

_SAMPLE_BYTES = 256
_MEDIUM_URL = b'_url"'
"""Of `image_url`, `video_url`, `audio_url`. Text cannot imitate it: its quotes are escaped."""
_MEDIUM_KEY = b'_url":'
_BASE64 = b";base64,"


class PromptSize(NamedTuple):
    """What a prompt's length is estimated from."""

    text_bytes: int
    """Its JSON text as UTF-8, without embedded media."""
    num_media: int
    """Images and other media in it."""
    num_ids: int | None
    """The exact number of tokens of a prompt given as token ids; None for text."""


def size_of(prompt_json: bytes, tools_json: bytes = b"") -> PromptSize:
    """Measure the JSON text of a prompt: messages, text, token ids, or a list of either.

    Args:
        tools_json: the tools of a chat, which its template writes into the prompt.
    """
    is_chat = prompt_json.startswith(b"[{")  # without blanks, as most clients write it
    if not is_chat:
        start = prompt_json[:64].lstrip()
        if start[:1] != b"[":
            return PromptSize(_text_bytes(prompt_json), 0, None)
        first = start[1:].lstrip()[:1]
        if first == b"[" or first.isdigit():
            # Of numbers, or lists of numbers: each comma stands before one more.
            return PromptSize(0, 0, prompt_json.count(b",") + 1)
        is_chat = first == b"{"
    num_media = 0
    num_left_out = 0
    if is_chat and _MEDIUM_URL in prompt_json:
        num_media = prompt_json.count(_MEDIUM_KEY)
        num_left_out = _embedded_bytes(prompt_json)
    text_bytes = _text_bytes(prompt_json) - num_left_out
    if tools_json:
        text_bytes += _text_bytes(tools_json)
    return PromptSize(max(0, text_bytes), num_media, None)


def _text_bytes(text_json: bytes) -> int:
    r"""Return the length of the text as UTF-8, `\uXXXX` counted as three bytes instead of six.

    Whether a client escapes like that shows in three samples; counting all escapes would cost
    more than everything else here. Three bytes are right for most of what is ever escaped.
    """
    size = len(text_json)
    if size <= 3 * _SAMPLE_BYTES:
        return size - 3 * text_json.count(b"\\u")
    middle = size // 2
    sample = (
        text_json[:_SAMPLE_BYTES]
        + text_json[middle : middle + _SAMPLE_BYTES]
        + text_json[-_SAMPLE_BYTES:]
    )
    num_escaped = sample.count(b"\\u")
    return size - 3 * num_escaped * size // len(sample) if num_escaped else size


def _embedded_bytes(prompt_json: bytes) -> int:
    """Return how many bytes are media written out in base64."""
    total = 0
    start = prompt_json.find(_BASE64)
    while start >= 0:
        end = prompt_json.find(b'"', start)
        if end < 0:
            end = len(prompt_json)
        total += end - start
        start = prompt_json.find(_BASE64, end)
    return total
