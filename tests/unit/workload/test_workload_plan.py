"""What a plan of each kind of class looks like."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from hfx_sgl.slo import Slo
from hfx_sgl.workload.load import load_workload, workload_names
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.workload import Workload

AGENT = """
rate_per_s: 4
max_prompt_tokens: {limit}
sources:
  - class: agent
    share: 1
    priority: 3
    system_prompt_tokens: 500
    prompt_tokens: {{kind: uniform, min: 50, max: 150}}
    output_tokens: {{kind: uniform, min: 10, max: 30}}
    max_tokens: {{multiple: 2}}
    sessions:
      turns: {{kind: uniform, min: 2, max: 6}}
      opening_tokens: {{kind: fixed, value: 200}}
      turn_gap_s: {{kind: uniform, min: 5, max: 15}}
"""
DOCUMENTS = """
rate_per_s: 10
sources:
  - class: summarisation
    share: 1
    system_prompt_tokens: 100
    documents: {count: 20, skew: 1.0, tokens: {kind: uniform, min: 1000, max: 2000}}
    prompt_tokens: {kind: fixed, value: 40}
    output_tokens: {kind: fixed, value: 60}
"""


def workload(tmp_path: Path, text: str) -> Workload:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    return load_workload(path)


def sessions_of(requests: list[PlannedRequest]) -> dict[str, list[PlannedRequest]]:
    sessions: dict[str, list[PlannedRequest]] = {}
    for request in requests:
        assert request.routing_key is not None
        sessions.setdefault(request.routing_key, []).append(request)
    return sessions


def agent_plan(tmp_path: Path, limit: int = 32_768) -> list[PlannedRequest]:
    return list(workload(tmp_path, AGENT.format(limit=limit)).plan(seed=3, duration_s=600))


def test_turns_of_a_session_repeat_everything_before_them(tmp_path: Path) -> None:
    sessions = sessions_of(agent_plan(tmp_path))
    num_pairs = 0
    for turns in sessions.values():
        for earlier, later in pairwise(turns):
            num_pairs += 1
            known = len(earlier.prompt.segment_ids)
            assert later.prompt.segment_ids[:known] == earlier.prompt.segment_ids
            assert later.prompt.segment_tokens[:known] == earlier.prompt.segment_tokens
            # The answer, and what the turn itself says.
            assert later.prompt.segment_tokens[known] == earlier.num_output_tokens
            assert len(later.prompt.segment_ids) == known + 2
            assert 5 <= later.at_s - earlier.at_s <= 15
    assert num_pairs > 100


def test_sessions_share_only_the_system_prompt(tmp_path: Path) -> None:
    sessions = sessions_of(agent_plan(tmp_path))
    firsts = [turns[0].prompt for turns in sessions.values()]
    assert len({prompt.segment_ids[0] for prompt in firsts}) == 1
    assert {prompt.segment_tokens[:2] for prompt in firsts} == {(500, 200)}
    assert len({prompt.segment_ids[1] for prompt in firsts}) == len(firsts)


def test_the_rate_of_a_session_class_counts_turns_from_the_first_second(tmp_path: Path) -> None:
    requests = agent_plan(tmp_path)
    for start_s in (0, 300):
        within = [r for r in requests if start_s <= r.at_s < start_s + 300]
        assert len(within) == pytest.approx(1200, rel=0.12)


def test_a_session_ends_before_a_prompt_that_is_too_long(tmp_path: Path) -> None:
    requests = agent_plan(tmp_path, limit=900)
    assert max(request.prompt.num_tokens for request in requests) <= 900
    assert max(map(len, sessions_of(requests).values())) <= 3
    assert len(requests) == pytest.approx(2400, rel=0.1)


def test_fields_of_the_class_reach_its_requests(tmp_path: Path) -> None:
    for request in agent_plan(tmp_path)[:50]:
        assert request.class_name == "agent"
        assert request.priority == 3
        assert request.max_output_tokens == 2 * request.num_output_tokens
        assert request.slo == Slo()


def test_requests_share_documents_and_the_popular_ones_most(tmp_path: Path) -> None:
    requests = list(workload(tmp_path, DOCUMENTS).plan(seed=1, num_requests=4000))
    seen = Counter(request.prompt.segment_ids[1] for request in requests)
    lengths = {request.prompt.segment_ids[1:2] + request.prompt.segment_tokens[1:2]
               for request in requests}  # fmt: skip
    assert len(seen) == len(lengths) == 20
    (_, first), (_, second), *_, (_, last) = seen.most_common()
    assert first / second == pytest.approx(2, rel=0.15)
    assert first / last == pytest.approx(20, rel=0.4)
    assert len({request.prompt.segment_ids[2] for request in requests}) == 4000
    assert {request.prompt.segment_tokens[0::2] for request in requests} == {(100, 40)}


def test_a_plan_needs_an_end(tmp_path: Path) -> None:
    endless = workload(tmp_path, DOCUMENTS)
    with pytest.raises(ValueError, match="has no end"):
        endless.plan(seed=0)


@pytest.mark.parametrize(
    "bounds",
    [
        {"load_factor": 0.0},
        {"load_factor": float("inf")},
        {"duration_s": 0.0},
        {"num_requests": 0},
    ],
)
def test_bounds_out_of_range_are_refused(bounds: dict[str, float]) -> None:
    (name,) = bounds
    with pytest.raises(ValueError, match=name):
        load_workload("mixed").plan(**{"seed": 0, "duration_s": 1.0, **bounds})  # type: ignore[arg-type]


def test_both_bounds_hold() -> None:
    mixed = load_workload("mixed")
    assert len(list(mixed.plan(seed=0, duration_s=100, num_requests=30))) == 30
    few = list(mixed.plan(seed=0, duration_s=3, num_requests=10_000))
    assert 0 < len(few) < 50
    assert max(request.at_s for request in few) < 3


def test_the_default_mix_is_what_its_description_says() -> None:
    requests = list(load_workload("mixed").plan(seed=0, duration_s=2400))
    assert len(requests) / 2400 == pytest.approx(5, rel=0.05)
    counts = Counter(request.class_name for request in requests)
    shares = {"chat": 0.4, "code": 0.25, "summarisation": 0.1, "agent": 0.2, "batch": 0.05}
    assert {name: counts[name] / len(requests) for name in shares} == pytest.approx(shares, rel=0.1)
    medians = {}
    for name in shares:
        lengths = sorted(
            (r.prompt.num_tokens, r.num_output_tokens) for r in requests if r.class_name == name
        )
        medians[name] = lengths[len(lengths) // 2][0]
    assert medians["chat"] == pytest.approx(1020, rel=0.05)
    assert medians["code"] == pytest.approx(1470, rel=0.1)
    slos = {request.class_name: request.slo for request in requests}
    assert slos["chat"] == Slo(ttft_s=1.0, tpot_s=0.05)
    assert slos["batch"] == Slo(ttft_s=30.0, tpot_s=0.2)


@pytest.mark.parametrize("name", workload_names())
def test_every_shipped_workload_can_be_planned(name: str) -> None:
    workload = load_workload(name)
    requests = list(workload.plan(seed=0, num_requests=500))
    assert {request.class_name for request in requests} == set(workload.class_names())
    assert workload.rate_per_s == pytest.approx(5)
    assert workload.description
