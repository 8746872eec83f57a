import pytest

from hfx_sgl.policy.estimates.prompt_size import PromptSize
from hfx_sgl.policy.estimates.prompt_tokens import PromptTokens, PromptTokensConfig


def text(num_bytes: int) -> PromptSize:
    return PromptSize(num_bytes, 0, None)


def taught(tokens: PromptTokens, class_name: str, bytes_per_token: float, times: int = 120) -> None:
    for number in range(times):
        num_bytes = 1000 + 100 * (number % 7)
        tokens.observe("m", class_name, text(num_bytes), round(num_bytes / bytes_per_token))


def test_before_anything_is_known_four_bytes_are_a_token() -> None:
    tokens = PromptTokens()
    assert tokens.estimate("m", "chat", text(4000)) == 1000
    assert tokens.estimate("m", "chat", text(0)) == 1


def test_token_ids_are_what_they_are_and_teach_nothing() -> None:
    tokens = PromptTokens()
    ids = PromptSize(0, 0, 77)
    assert tokens.estimate("m", "chat", ids) == 77
    tokens.observe("m", "chat", ids, 5)
    assert tokens.bytes_per_token("m", "chat") == 4.0


@pytest.mark.parametrize("bytes_per_token", [1.0, 2.5, 4.0, 9.0])
def test_the_ratio_is_learned(bytes_per_token: float) -> None:
    tokens = PromptTokens()
    taught(tokens, "chat", bytes_per_token)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(bytes_per_token, rel=0.02)
    assert tokens.estimate("m", "chat", text(9000)) == pytest.approx(
        9000 / bytes_per_token, rel=0.02
    )


def test_classes_and_models_have_ratios_of_their_own() -> None:
    tokens = PromptTokens()
    taught(tokens, "chat", 4.5)
    taught(tokens, "code", 2.5)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(4.5, rel=0.02)
    assert tokens.bytes_per_token("m", "code") == pytest.approx(2.5, rel=0.02)
    assert 2.5 < tokens.bytes_per_token("m", "unheard of") < 4.5
    assert tokens.bytes_per_token("other", "chat") == 4.0


def test_what_changes_is_learned_anew() -> None:
    tokens = PromptTokens()
    taught(tokens, "chat", 5.0, times=300)
    taught(tokens, "chat", 2.0, times=300)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(2.0, rel=0.05)


def test_one_absurd_answer_does_little() -> None:
    tokens = PromptTokens()
    taught(tokens, "chat", 4.0)
    tokens.observe("m", "chat", text(1500), 10_000_000)
    tokens.observe("m", "chat", text(1), 10_000_000)
    tokens.observe("m", "chat", text(1500), 0)
    tokens.observe("m", "chat", text(1500), -5)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(4.0, rel=0.06)


def test_one_huge_prompt_weighs_no_more_than_a_long_one() -> None:
    tokens = PromptTokens()
    taught(tokens, "chat", 4.0, times=200)
    tokens.observe("m", "chat", text(10_000_000), 5_000_000)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize(("num_tokens", "bound"), [(10**9, 0.5), (1, 16.0)])
def test_the_ratio_is_bounded(num_tokens: int, bound: float) -> None:
    tokens = PromptTokens()
    for _ in range(500):
        tokens.observe("m", "chat", text(100_000), num_tokens)
    assert tokens.bytes_per_token("m", "chat") == pytest.approx(bound)


def test_media_are_learned_apart_from_text() -> None:
    tokens = PromptTokens()
    size = PromptSize(400, 2, None)
    assert tokens.estimate("m", "chat", size) == 100 + 2 * 1000
    for _ in range(60):
        tokens.observe("m", "chat", size, 100 + 2 * 300)
    assert tokens.estimate("m", "chat", size) == pytest.approx(700, rel=0.02)
    assert tokens.bytes_per_token("m", "chat") == 4.0


def test_no_more_ratios_are_kept_than_configured() -> None:
    tokens = PromptTokens(PromptTokensConfig(max_ratios=2))
    for model in ("a", "b", "c"):
        for _ in range(50):
            tokens.observe(model, "chat", text(1000), 500)
            tokens.observe(model, "chat", PromptSize(0, 1, None), 400)
    assert tokens.bytes_per_token("b", "chat") == pytest.approx(2.0, rel=0.02)
    assert tokens.bytes_per_token("c", "chat") == 4.0
    assert tokens.estimate("b", "chat", PromptSize(0, 1, None)) < 500
    assert tokens.estimate("c", "chat", PromptSize(0, 1, None)) == 1000
