"""What an emulated model answers: a pure function of the prompt, the same on every worker.

The output is cut out of a fixed text of random words, at a place that the prompt decides. It says
nothing, but two workers agree on it, as greedy decoding does.
"""

import random
from functools import cache

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.prompt_text import TOKEN_BYTES

_TABLE_TOKENS = 16_384
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST_TOKENS = 16
_LONGEST_TOKENS = 512


def seed_of(prompt: Prompt) -> int:
    """Return the number that stands for a prompt: the id of its last segment."""
    return prompt.segment_ids[-1]


def output_tokens(seed: int, start: int, stop: int) -> bytes:
    """Return the output tokens `start` to `stop` (exclusive), four bytes each.

    Args:
        seed: stands for the prompt, see `seed_of`.
    """
    table = _word_table()
    first = (seed % _TABLE_TOKENS + start) % _TABLE_TOKENS * TOKEN_BYTES
    size = (stop - start) * TOKEN_BYTES
    data = table[first : first + size]
    while len(data) < size:
        data += table[: size - len(data)]
    return data


def natural_length(seed: int) -> int:
    """Return how long the model would talk about this prompt: 16 to 512 tokens.

    Log-uniform, hence 91 tokens at the median and 143 on average.
    """
    fraction = (seed >> 16) % 2**20 / 2**20
    return int(_SHORTEST_TOKENS * (_LONGEST_TOKENS / _SHORTEST_TOKENS) ** fraction)


def logprob(token_id: int) -> float:
    """Return the log probability of a token: made up, and always the same one."""
    return -0.25 - token_id * 2_654_435_761 % 2**32 / 2**30


def alternatives(token_id: int, num: int) -> list[tuple[float, int]]:
    """Return the `num` most likely tokens, the given one first, with their log probabilities."""
    table = _word_table()
    found = [(logprob(token_id), token_id)]
    for rank in range(1, num):
        at = (token_id + rank) % _TABLE_TOKENS * TOKEN_BYTES
        other = int.from_bytes(table[at : at + TOKEN_BYTES], "little")
        found.append((found[0][0] - 0.1 * rank, other))
    return found[:num]


@cache
def _word_table() -> bytes:
    """Return a fixed text of words of three letters and a space."""
    rng = random.Random(1)
    words = ("".join(rng.choices(_LETTERS, k=TOKEN_BYTES - 1)) for _ in range(_TABLE_TOKENS))
    return "".join(f"{word} " for word in words).encode()
