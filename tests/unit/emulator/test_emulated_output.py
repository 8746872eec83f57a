import pytest

from hfx_sgl.emulator import tokens
from hfx_sgl.emulator.output import alternatives, logprob, natural_length, output_tokens

SEED = 0x1234_5678_9ABC_DEF0


def test_output_is_the_same_however_it_is_cut() -> None:
    whole = output_tokens(SEED, 0, 100)
    parts = [output_tokens(SEED, at, at + 7) for at in range(0, 98, 7)]
    assert b"".join(parts) == whole[: 98 * 4]


def test_output_goes_on_beyond_the_table() -> None:
    whole = output_tokens(SEED, 0, 40_000)
    assert tokens.count(whole) == 40_000
    assert output_tokens(SEED, 39_990, 40_000) == whole[-40:]


def test_output_is_words_of_four_bytes() -> None:
    words = tokens.decode(output_tokens(SEED, 0, 50))
    assert all(len(word) == 3 and word.isalpha() and word.islower() for word in words.split())
    assert len(words) == 200


def test_prompts_differ_in_their_output() -> None:
    assert output_tokens(1, 0, 20) != output_tokens(2, 0, 20)


def test_lengths_lie_in_their_range_and_about_the_median() -> None:
    lengths = sorted(natural_length(seed * 0x9E37_79B9_7F4A_7C15 % 2**64) for seed in range(2000))
    assert 16 <= lengths[0] < 20
    assert 450 < lengths[-1] <= 512
    assert lengths[1000] == pytest.approx(91, rel=0.1)


def test_log_probabilities_are_negative_and_fixed() -> None:
    values = [logprob(token_id) for token_id in (0, 5, 2**32 - 1, 2_000_000)]
    assert all(-5 < value < 0 for value in values)
    assert len(set(values)) == len(values)
    assert logprob(5) == values[1]


@pytest.mark.parametrize("num", [0, 1, 3])
def test_alternatives_begin_with_the_token_and_get_less_likely(num: int) -> None:
    found = alternatives(77, num)
    assert len(found) == num
    assert [token_id for _, token_id in found][:1] == [77][:num]
    assert found == sorted(found, reverse=True)
