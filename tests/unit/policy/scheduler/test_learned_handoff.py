"""How the lag between a computed prompt and its first token is learnt."""

import pytest
from support.scheduling import plain_models

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.scheduler.handoff import Handoff

BYTES_PER_TOKEN = 30_000
BYTES_PER_S = 5e9


def transferred(num_transfers: int, *, strangers: int = 0) -> Handoff:
    """One that has seen transfers of 10 ms and 5 GB/s.

    Of ten of them so many are attributed to a prompt ten times as long as their own.
    """
    handoff = Handoff(LatencyModels(LatencyPrior()).transfer)
    for n in range(num_transfers):
        num_tokens = 500 + 400 * (n % 10)
        num_bytes = num_tokens * BYTES_PER_TOKEN
        told_tokens = 10 * num_tokens if n % 10 >= 10 - strangers else num_tokens
        handoff.observe_transfer(num_bytes, 0.01 + num_bytes / BYTES_PER_S, told_tokens)
    return handoff


def test_a_longer_prompt_is_assumed_to_take_longer() -> None:
    handoff = transferred(0)
    assert 0 < handoff.lag_s(10) < handoff.lag_s(10_000)
    assert handoff.until_first_token_s(10) > handoff.lag_s(10)


@pytest.mark.parametrize("strangers", [0, 3])
def test_transfers_teach_the_lag_by_prompt_length(strangers: int) -> None:
    handoff = transferred(60, strangers=strangers)
    for num_tokens in (1000, 4000):
        expected_s = 0.01 + num_tokens * BYTES_PER_TOKEN / BYTES_PER_S
        assert handoff.lag_s(num_tokens) == pytest.approx(expected_s, rel=0.1)


def test_a_few_transfers_suffice_for_the_size_of_a_token() -> None:
    # The model of transfers is told to know everything: what is left to learn is the size.
    models = LatencyModels(LatencyPrior(transfer_s=0.01, transfer_s_per_byte=1 / BYTES_PER_S))
    handoff = Handoff(models.transfer)
    num_bytes = 1000 * BYTES_PER_TOKEN
    before_s = handoff.lag_s(1000)
    handoff.observe_transfer(num_bytes, 0.01 + num_bytes / BYTES_PER_S, 1000)
    assert handoff.lag_s(1000) == pytest.approx(0.01 + num_bytes / BYTES_PER_S)
    assert handoff.lag_s(1000) < before_s


@pytest.mark.parametrize(
    ("joins_s", "expected_s"),
    [((0.04,), 0.04), ((0.02, 0.06), 0.06), ((0.0,), 0.0)],
)
def test_the_wait_for_the_first_token_is_learnt_with_its_spread(
    joins_s: tuple[float, ...], expected_s: float
) -> None:
    handoff = Handoff(plain_models(transfer_s=0.005).transfer)
    for n in range(600):
        handoff.observe_join(joins_s[n % len(joins_s)])
    join_s = handoff.until_first_token_s(100) - handoff.lag_s(100)
    assert join_s == pytest.approx(expected_s, rel=0.05, abs=1e-4)


def test_one_slow_join_changes_little() -> None:
    handoff = Handoff(plain_models(transfer_s=0.005).transfer)
    before_s = handoff.until_first_token_s(100)
    handoff.observe_join(0.5)
    assert before_s < handoff.until_first_token_s(100) < before_s + 0.05
