import pytest

from hfx_sgl.policy.slo.verdict import StreamTiming, WholeTiming, is_kept
from hfx_sgl.slo import Slo

STREAM = StreamTiming(ttft_s=1.0, tpot_s=0.05, e2e_s=3.0)


@pytest.mark.parametrize(
    ("slo", "kept"),
    [
        (Slo(), True),
        (Slo(ttft_s=1.0, tpot_s=0.05, e2e_s=3.0), True),
        (Slo(ttft_s=0.99), False),
        (Slo(tpot_s=0.049), False),
        (Slo(e2e_s=2.9), False),
        (Slo(ttft_s=5.0, tpot_s=5.0, e2e_s=2.9), False),
    ],
)
def test_streams(slo: Slo, kept: bool) -> None:
    assert is_kept(slo, STREAM) is kept


@pytest.mark.parametrize(
    ("slo", "e2e_s", "num_tokens", "kept"),
    [
        (Slo(), 1e9, 5, True),
        # due at ttft + (n-1) * tpot
        (Slo(ttft_s=1.0, tpot_s=0.5), 3.0, 5, True),
        (Slo(ttft_s=1.0, tpot_s=0.5), 3.01, 5, False),
        (Slo(ttft_s=1.0, tpot_s=0.5), 1.0, 1, True),
        (Slo(ttft_s=1.0, tpot_s=0.5), 1.01, 1, False),
        (Slo(ttft_s=1.0, tpot_s=0.5, e2e_s=2.0), 2.5, 5, False),
        # embeddings count no tokens, reranking does not count at all
        (Slo(ttft_s=1.0), 1.01, 0, False),
        (Slo(ttft_s=1.0), 1.0, None, True),
        (Slo(ttft_s=1.0), 1.01, None, False),
        # one bound alone gives several tokens no due time
        (Slo(ttft_s=1.0), 9.0, 2, True),
        (Slo(tpot_s=0.1), 9.0, 2, True),
        (Slo(tpot_s=0.1), 9.0, 1, True),
        (Slo(e2e_s=8.0), 9.0, None, False),
    ],
)
def test_answers_in_one_piece(slo: Slo, e2e_s: float, num_tokens: int | None, kept: bool) -> None:
    assert is_kept(slo, WholeTiming(e2e_s=e2e_s, num_output_tokens=num_tokens)) is kept
