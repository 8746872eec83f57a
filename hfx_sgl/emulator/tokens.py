"""The emulated tokenizer: four bytes of UTF-8 are one token, whatever they say.

A token's id is the number that its four bytes make (little endian), the last token of a text is
filled up with zero bytes. So the ids of a text and the text itself are the same bytes, and a
prompt given as `input_ids` is cached like one given as text.
"""

import struct
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.prompt_text import TOKEN_BYTES

SEGMENT_TOKENS = 16
"""Prompts are compared in pieces of this many tokens."""
MAX_TOKEN_ID = 2**32 - 1
_SEGMENT_BYTES = SEGMENT_TOKENS * TOKEN_BYTES


def encode(text: str) -> bytes:
    """Return the tokens of a text, four bytes each."""
    data = text.encode("utf-8", "replace")
    return data + bytes(-len(data) % TOKEN_BYTES)


def encode_ids(ids: Sequence[int]) -> bytes:
    """Return the tokens with these ids, four bytes each.

    Raises:
        ValueError: an id is not a whole number from 0 to `MAX_TOKEN_ID`.
    """
    try:
        return struct.pack(f"<{len(ids)}I", *ids)
    except struct.error as exc:
        raise ValueError(f"token ids must be whole numbers from 0 to {MAX_TOKEN_ID}") from exc


def decode(data: bytes) -> str:
    """Return the text of some tokens."""
    return data.replace(b"\0", b"").decode("utf-8", "replace")


def token_ids(data: bytes) -> list[int]:
    """Return the ids of some tokens."""
    return list(struct.unpack(f"<{len(data) // TOKEN_BYTES}I", data))


def count(data: bytes) -> int:
    """Return how many tokens there are."""
    return len(data) // TOKEN_BYTES


def prompt_of(data: bytes) -> Prompt:
    """Return what the engine model knows of a prompt of at least one token.

    The id of a segment depends on everything before it, so equal ids mean equal prefixes.
    """
    ids = []
    segment_id = 0
    for at in range(0, len(data), _SEGMENT_BYTES):
        segment_id = xxh3_64_intdigest(data[at : at + _SEGMENT_BYTES], segment_id)
        ids.append(segment_id)
    lengths = [SEGMENT_TOKENS] * len(ids)
    lengths[-1] = (len(data) - 1) % _SEGMENT_BYTES // TOKEN_BYTES + 1
    return Prompt(tuple(ids), tuple(lengths))
