import pytest

from hfx_sgl.policy.scheduler.output_lengths import OutputLengths


def test_learns_each_class_by_itself() -> None:
    lengths = OutputLengths()
    prior = lengths.expected_tokens("chat", None)
    for _ in range(400):
        lengths.observe("chat", 20)
    assert lengths.expected_tokens("chat", None) == pytest.approx(20, abs=5)
    assert lengths.expected_tokens("code", None) == prior


def test_follows_a_change() -> None:
    lengths = OutputLengths()
    for length in [1000] * 2000 + [50] * 2500:
        lengths.observe("chat", length)
    assert lengths.expected_tokens("chat", None) < 100


@pytest.mark.parametrize(("allowed", "expected"), [(10, 10), (1, 1), (0, 1), (10_000, 256)])
def test_is_bounded_by_what_the_client_allows(allowed: int, expected: int) -> None:
    assert OutputLengths().expected_tokens("chat", allowed) == expected


def test_is_at_least_one_token() -> None:
    lengths = OutputLengths()
    for _ in range(5000):
        lengths.observe("chat", 0)
    assert lengths.expected_tokens("chat", None) == 1
