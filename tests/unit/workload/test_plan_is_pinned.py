"""A plan is the same in every process and on every supported Python."""

from pathlib import Path

import pytest
import xxhash

from hfx_sgl.workload.load import load_workload

TEXT = """\
rate_per_s: 10
sources:
  - class: single
    share: 0.5
    arrivals: {process: ARRIVALS, diurnal: {period_s: 60, amplitude_ratio: 0.5}}
    prompt_tokens: {kind: lognormal, median: 100, p90: 300, min: 1, max: 1000}
    output_tokens: {kind: quantiles, points: [[0, 1], [0.5, 20], [1, 400]]}
    documents: {count: 9, skew: 0.7, tokens: {kind: uniform, min: 200, max: 900}}
  - class: turns
    share: 0.5
    system_prompt_tokens: 70
    prompt_tokens: {kind: uniform, min: 5, max: 90}
    output_tokens: {kind: fixed, value: 33}
    sessions:
      turns: {kind: uniform, min: 1, max: 5}
      opening_tokens: {kind: uniform, min: 10, max: 80}
      turn_gap_s: {kind: lognormal, median: 5, p90: 12, min: 1, max: 30}
"""


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ("poisson", "6cc6114ba34351f2"),
        ("gamma, cv: 2.5", "259f2681b4e37038"),
        ("uniform", "abe44fef823ca3f2"),
    ],
)
def test_a_plan_is_the_same_everywhere(tmp_path: Path, arrivals: str, expected: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(TEXT.replace("ARRIVALS", arrivals))
    state = xxhash.xxh3_64()
    for r in load_workload(path).plan(seed=7, num_requests=1000):
        line = (
            f"{r.request_id} {r.at_s:.6f} {r.prompt.segment_ids} {r.prompt.segment_tokens} "
            f"{r.num_output_tokens} {r.max_output_tokens} {r.routing_key}\n"
        )
        state.update(line.encode())
    assert state.hexdigest() == expected
