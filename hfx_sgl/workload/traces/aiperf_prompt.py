"""Prompts and lengths of AIPerf's and SGLang's rows.

A prompt is given in one of these ways: `input_length`, with or without `hash_ids`; `text_input` or
`text`; `messages`; `conversations` (SGLang `custom`: the first entry asks, the second answers).
The answer's length is `output_length`, `max_tokens` or `max_completion_tokens`. Text is measured
as emulated workers measure it, in tokens of four bytes.
"""

from typing import Any

import xxhash

from hfx_sgl.workload.prompt_text import TOKEN_BYTES
from hfx_sgl.workload.traces.fields import positive_int
from hfx_sgl.workload.traces.formats import Report
from hfx_sgl.workload.traces.json_rows import Segments, hashed_segments

PROMPT_FIELDS = (
    "input_length", "text_input", "text", "messages", "conversations", "conversation",
)  # fmt: skip
_LENGTH_FIELDS = ("output_length", "max_tokens", "max_completion_tokens")
_TEXT_FIELDS = ("content", "value")


def prompt_of(
    line: int, row: dict[str, Any], report: Report, block_tokens: int
) -> tuple[Segments, int] | None:
    """Return the segments that rows may share, and the length of what follows them."""
    given = [name for name in PROMPT_FIELDS if row.get(name) is not None]
    if len(given) != 1:
        report(line, given[1] if given else "input_length", _one_prompt(given))
        return None
    (name,) = given
    if name == "input_length":
        return _by_length(line, row, report, block_tokens)
    if row.get("hash_ids") is not None:
        report(line, "hash_ids", f"belongs to input_length, not to {name}")
        return None
    if name in ("text_input", "text"):
        texts = _texts([{"content": row[name]}])
    elif name == "messages":
        texts = _texts(row[name])
    else:
        texts = _texts(row[name][:1] if isinstance(row[name], list) else row[name])
    if texts is None:
        report(line, name, "must hold text")
        return None
    return tuple(map(_segment, texts)), 0


def output_tokens_of(line: int, row: dict[str, Any], report: Report) -> int | None:
    """Return the length of the answer."""
    for name in _LENGTH_FIELDS:
        if row.get(name) is not None:
            return positive_int(row[name], line, name, report)
    for name in ("conversations", "conversation"):
        entries = row.get(name)
        if isinstance(entries, list) and len(entries) > 1:
            texts = _texts(entries[1:2])
            if texts is not None:
                return _segment(texts[0])[1]
    report(line, "output_length", "is missing")
    return None


def _by_length(
    line: int, row: dict[str, Any], report: Report, block_tokens: int
) -> tuple[Segments, int] | None:
    num_tokens = positive_int(row["input_length"], line, "input_length", report)
    if num_tokens is None:
        return None
    if not row.get("hash_ids"):
        return (), num_tokens
    segments = hashed_segments(row["hash_ids"], num_tokens, block_tokens, line, report)
    return None if segments is None else (segments, 0)


def _one_prompt(given: list[str]) -> str:
    if given:
        return f"a row has one prompt, and {given[0]} gives it already"
    return f"is missing (a prompt is given by one of {', '.join(PROMPT_FIELDS)})"


def _texts(entries: object) -> list[str] | None:
    """Return the text of each entry; None unless all have text."""
    if not isinstance(entries, list) or not entries:
        return None
    texts = []
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        text = next((entry[name] for name in _TEXT_FIELDS if entry.get(name)), None)
        if not isinstance(text, str):
            return None
        texts.append(text)
    return texts


def _segment(text: str) -> tuple[int, int]:
    """Return a number for the text, and its length in tokens."""
    data = text.encode()
    return xxhash.xxh3_64_intdigest(data), -(-len(data) // TOKEN_BYTES)
