import pytest
from hfx_router.exchange.judgement import judge
from hfx_router.http1.sse_meter import SseMeter
from hfx_router.metrics.labels import Outcome

from hfx_sgl.slo import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.1)


def followed(payload: bytes) -> SseMeter:
    meter = SseMeter()
    meter.feed(payload)
    return meter


@pytest.mark.parametrize(
    ("outcome", "is_met"),
    [
        (Outcome.COMPLETED, True),
        (Outcome.CLIENT_ERROR, None),
        (Outcome.CANCELLED, None),
        (Outcome.REJECTED, False),
        (Outcome.EVICTED, False),
        (Outcome.UNAVAILABLE, False),
        (Outcome.TIMEOUT, False),
        (Outcome.UPSTREAM_ERROR, False),
        (Outcome.INTERNAL_ERROR, False),
    ],
)
def test_outcomes(outcome: Outcome, is_met: bool | None) -> None:
    assert judge(SLO, outcome, e2e_s=0.5, stream=(0.5, 0.0), answer=None) is is_met


def test_every_outcome_is_judged_on_purpose() -> None:
    assert len(Outcome) == 9


@pytest.mark.parametrize(
    ("stream", "payload", "e2e_s", "is_met"),
    [
        ((0.9, 0.1), b"data: x\n\n", 99.0, True),
        ((1.1, 0.1), b"data: x\n\n", 1.1, False),
        ((0.9, 0.2), b"data: x\n\n", 1.1, False),
        ((0.1, 0.0), b'data: {"error":{"message":"m"}}\n\n', 0.1, False),
        (None, b'{"usage":{"completion_tokens":11}}', 2.0, True),
        (None, b'{"usage":{"completion_tokens":10}}', 2.0, False),
        (None, b'{"finish_reason":"abort","usage":{"completion_tokens":11}}', 0.1, False),
        (None, b"[]", 1.0, True),
        (None, b"[]", 1.01, False),
    ],
)
def test_completed_requests(
    stream: tuple[float, float] | None, payload: bytes, e2e_s: float, is_met: bool
) -> None:
    answer = followed(payload)
    verdict = judge(SLO, Outcome.COMPLETED, e2e_s=e2e_s, stream=stream, answer=answer)
    assert verdict is is_met
