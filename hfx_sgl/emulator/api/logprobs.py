"""Made-up log probabilities in the shapes of the real server."""

from dataclasses import dataclass
from typing import Any

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.output import alternatives, logprob
from hfx_sgl.workload.prompt_text import TOKEN_BYTES

Entry = list[Any]
"""A log probability (None for the first token of a prompt), a token id, its text or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobOptions:
    """What the native endpoint was asked for."""

    start: int | None = None
    """First prompt token to report; None reports none."""
    num_top: int = 0
    token_ids: tuple[int, ...] | None = None
    has_text: bool = False


def entries(data: bytes, *, has_text: bool, skips_first: bool = False) -> list[Entry]:
    """Return `[logprob, id, text]` of each token; nothing is known of a prompt's first token."""
    found: list[Entry] = [
        [logprob(token_id), token_id, token_text(token_id) if has_text else None]
        for token_id in tokens.token_ids(data)
    ]
    if found and skips_first:
        found[0][0] = None
    return found


def top_entries(
    data: bytes, num: int, *, has_text: bool, skips_first: bool = False
) -> list[list[Entry] | None]:
    """Return the `num` most likely tokens at each place."""
    found: list[list[Entry] | None] = [
        [
            [value, other, token_text(other) if has_text else None]
            for value, other in alternatives(token_id, num)
        ]
        for token_id in tokens.token_ids(data)
    ]
    if found and skips_first:
        found[0] = None
    return found


def chosen_entries(
    data: bytes, ids: tuple[int, ...], *, has_text: bool, skips_first: bool = False
) -> list[list[Entry] | None]:
    """Return the log probabilities of the same tokens at each place."""
    num_places = tokens.count(data)
    row: list[Entry] = [
        [logprob(token_id), token_id, token_text(token_id) if has_text else None]
        for token_id in ids
    ]
    return [None if skips_first and at == 0 else row for at in range(num_places)]


def completion_logprobs(prompt: bytes, output: bytes, num_top: int) -> dict[str, list[Any]]:
    """Return the `logprobs` of a choice of `/v1/completions`; `prompt` is empty without echo."""
    found = entries(prompt, has_text=True, skips_first=True) + entries(output, has_text=True)
    top = top_entries(prompt, num_top, has_text=True, skips_first=True)
    top += top_entries(output, num_top, has_text=True)
    return {
        "text_offset": [-1] * len(found),
        "token_logprobs": [entry[0] for entry in found],
        "tokens": [entry[2] for entry in found],
        "top_logprobs": [
            None if row is None else {text: value for value, _, text in row} for row in top
        ],
    }


def chat_logprobs(output: bytes, num_top: int) -> dict[str, list[Any]]:
    """Return the `logprobs` of a choice of `/v1/chat/completions`."""
    content = []
    for token_id in tokens.token_ids(output):
        item = _chat_item(logprob(token_id), token_id)
        top = alternatives(token_id, num_top)
        item["top_logprobs"] = [_chat_item(value, other) for value, other in top]
        content.append(item)
    return {"content": content}


def token_text(token_id: int) -> str:
    """Return the text of one token."""
    return tokens.decode(token_id.to_bytes(TOKEN_BYTES, "little"))


def _chat_item(value: float, token_id: int) -> dict[str, Any]:
    text = token_text(token_id)
    return {"token": text, "bytes": list(text.encode()), "logprob": value}
