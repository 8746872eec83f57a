"""Text for emulated prompts: the same segments give the same bytes, in simulation and on the wire.

A token is four bytes (three letters and a space), so that an emulated worker can count tokens
exactly and a real tokenizer arrives at a similar figure.
"""

import random
from functools import cache

from hfx_sgl.prompt import Prompt

TOKEN_BYTES = 4
_TABLE_TOKENS = 16_384
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NAME_TOKENS = 5
"""How many words spell a segment's id: 26 ** 15 exceeds 2 ** 64."""


def prompt_text(prompt: Prompt) -> str:
    """Return the text of a prompt: `prompt.num_tokens` words of three letters and a space."""
    return "".join(map(_segment_text, prompt.segment_ids, prompt.segment_tokens))


def _segment_text(segment_id: int, num_tokens: int) -> str:
    """Return the words of one segment, which begin by spelling its id."""
    table = _word_table()
    name = _name(segment_id)
    start = segment_id % _TABLE_TOKENS * TOKEN_BYTES
    text = name + table[start:]
    size = num_tokens * TOKEN_BYTES
    while len(text) < size:
        text += table
    return text[:size]


def _name(segment_id: int) -> str:
    """Return words that no other segment begins with. `segment_id` is taken modulo 2 ** 64."""
    rest = segment_id % 2**64
    letters = []
    for _ in range(3 * _NAME_TOKENS):
        rest, digit = divmod(rest, len(_LETTERS))
        letters.append(_LETTERS[digit])
    return "".join("".join(letters[at : at + 3]) + " " for at in range(0, len(letters), 3))


@cache
def _word_table() -> str:
    """Return a fixed text of random words; segments are cut out of it."""
    rng = random.Random(0)
    return "".join("".join(rng.choices(_LETTERS, k=3)) + " " for _ in range(_TABLE_TOKENS))
