from itertools import pairwise

import pytest
from policy_comparison.workload import RELAXED, TIGHT, TwoClasses

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.prompt_text import prompt_text


def test_every_policy_gets_the_same_requests() -> None:
    workload = TwoClasses(seed=3)
    assert list(workload.requests()) == list(workload.requests())
    assert list(workload.requests()) != list(TwoClasses(seed=4).requests())


def test_requests_come_in_order_within_the_time_at_about_the_rate() -> None:
    requests = list(TwoClasses(rate_per_s=20.0, duration_s=50.0).requests())
    assert all(one.at_s <= other.at_s for one, other in pairwise(requests))
    assert requests[-1].at_s < 50.0
    assert 850 < len(requests) < 1150


def test_classes_differ_in_promise_and_length() -> None:
    workload = TwoClasses(tight_share=0.25, duration_s=100.0)
    requests = list(workload.requests())
    tight = [one for one in requests if one.class_name == TIGHT]
    relaxed = [one for one in requests if one.class_name == RELAXED]
    assert len(tight) + len(relaxed) == len(requests)
    assert 0.2 < len(tight) / len(requests) < 0.3
    assert {one.slo.ttft_s for one in tight} == {workload.tight_ttft_s}
    assert {one.slo.ttft_s for one in relaxed} == {workload.relaxed_ttft_s}
    assert max(one.prompt.num_tokens for one in tight) < relaxed[0].prompt.num_tokens


def test_no_two_prompts_begin_alike() -> None:
    texts = [prompt_text(one.prompt) for one in TwoClasses().requests()]
    assert len({text[:24] for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_per_s", 0.0),
        ("duration_s", -1.0),
        ("tight_share", 1.5),
        ("tight_ttft_s", 0.0),
        ("relaxed_ttft_s", float("nan")),
    ],
)
def test_bad_values_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        TwoClasses(**{field: value})  # type: ignore[arg-type]
