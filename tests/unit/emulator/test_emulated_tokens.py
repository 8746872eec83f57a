import pytest

from hfx_sgl.emulator import tokens
from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.prompt_text import prompt_text


@pytest.mark.parametrize(
    ("text", "num"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("日本", 2), ("a\0b", 1)],
)
def test_four_bytes_are_a_token(text: str, num: int) -> None:
    assert tokens.count(tokens.encode(text)) == num


@pytest.mark.parametrize("text", ["", "hello", "hello world!", "日本語 text", "ends with space "])
def test_ids_give_the_text_back(text: str) -> None:
    data = tokens.encode(text)
    ids = tokens.token_ids(data)
    assert tokens.encode_ids(ids) == data
    assert tokens.decode(data) == text


@pytest.mark.parametrize("ids", [[-1], [2**32], [1.5]])
def test_what_is_no_token_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="token ids"):
        tokens.encode_ids(ids)


@pytest.mark.parametrize("num", [1, 15, 16, 17, 32, 100])
def test_a_prompt_has_all_tokens_in_pieces_of_sixteen(num: int) -> None:
    prompt = tokens.prompt_of(tokens.encode_ids(range(num)))
    assert prompt.num_tokens == num
    assert set(prompt.segment_tokens[:-1]) <= {16}
    assert len(prompt.segment_ids) == -(-num // 16)


@pytest.mark.parametrize("num_shared", [0, 15, 16, 31, 32, 40])
def test_prompts_share_as_many_whole_pieces_as_tokens(num_shared: int) -> None:
    ours = tokens.prompt_of(tokens.encode_ids([7] * num_shared + [1] * 30))
    theirs = tokens.prompt_of(tokens.encode_ids([7] * num_shared + [2] * 30))
    pairs = zip(ours.segment_ids, theirs.segment_ids, strict=True)
    equal = [a == b for a, b in pairs]
    assert equal == [True] * (num_shared // 16) + [False] * (len(equal) - num_shared // 16)


def test_equal_pieces_after_different_ones_are_not_shared() -> None:
    ours = tokens.prompt_of(tokens.encode_ids([1] * 16 + [7] * 16))
    theirs = tokens.prompt_of(tokens.encode_ids([2] * 16 + [7] * 16))
    assert ours.segment_ids[1] != theirs.segment_ids[1]


@pytest.mark.parametrize("lengths", [(1,), (5, 3), (16, 16), (200, 1, 37)])
def test_the_text_of_a_workload_s_prompt_has_its_tokens(lengths: tuple[int, ...]) -> None:
    prompt = Prompt(tuple(range(len(lengths))), lengths)
    data = tokens.encode(prompt_text(prompt))
    assert tokens.prompt_of(data).num_tokens == prompt.num_tokens
