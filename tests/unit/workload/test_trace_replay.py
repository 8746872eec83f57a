from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.slo import Slo
from hfx_sgl.workload.load import load_workload
from hfx_sgl.workload.workload import Workload

MOONCAKE = """\
{"timestamp": 1000, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 700, "output_length": 7, "hash_ids": [0, 2]}
{"timestamp": 6000, "input_length": 100, "output_length": 2000, "hash_ids": [3]}
"""
UNTIMED = '{"input_length": 10, "output_length": 5}\n' * 2000


def workload(tmp_path: Path, options: str = "", text: str = MOONCAKE, top: str = "") -> Workload:
    (tmp_path / "t.jsonl").write_text(text)
    path = tmp_path / "w.yaml"
    source = f"{{class: agent, trace: t.jsonl, max_tokens: {{bound_tokens: 50}}{options}}}"
    path.write_text(f"slo_set: mixed\n{top}sources:\n  - {source}\n")
    return load_workload(path)


@pytest.mark.parametrize(
    ("options", "load_factor", "instants"),
    [
        ("", 1.0, [0, 2, 5]),
        ("", 2.0, [0, 1, 2.5]),
        (", time_scale: 3", 1.0, [0, 6, 15]),
        (", offset_s: 7", 2.0, [7, 8, 9.5]),
        (", rate_per_s: 1.2", 1.0, [0, 1, 2.5]),
    ],
)
def test_the_time_of_a_trace_can_be_shifted_and_scaled(
    tmp_path: Path, options: str, load_factor: float, instants: list[float]
) -> None:
    requests = list(workload(tmp_path, options).plan(seed=0, load_factor=load_factor))
    assert [request.at_s for request in requests] == pytest.approx(instants)


def test_a_share_scales_a_trace_to_its_part_of_the_rate(tmp_path: Path) -> None:
    scaled = workload(tmp_path, ", share: 1", top="rate_per_s: 1.2\n")
    assert scaled.rate_per_s == pytest.approx(1.2)
    assert [request.at_s for request in scaled.plan(seed=0)] == pytest.approx([0, 1, 2.5])


def test_blocks_with_one_id_are_shared_and_lengths_are_the_traces(tmp_path: Path) -> None:
    first, second, third = workload(tmp_path).plan(seed=0)
    assert first.prompt.segment_ids[0] == second.prompt.segment_ids[0]
    assert len({*first.prompt.segment_ids, *second.prompt.segment_ids}) == 3
    assert not set(third.prompt.segment_ids) & set(first.prompt.segment_ids)
    assert [r.prompt.num_tokens for r in (first, second, third)] == [600, 700, 100]
    assert [r.num_output_tokens for r in (first, second, third)] == [5, 7, 2000]
    assert [r.max_output_tokens for r in (first, second, third)] == [50, 50, 2000]
    assert {r.slo for r in (first, second, third)} == {Slo(ttft_s=2.0, tpot_s=0.08)}
    assert {r.class_name for r in (first, second, third)} == {"agent"}


def test_a_trace_ends_a_plan_and_can_be_bounded(tmp_path: Path) -> None:
    trace = workload(tmp_path)
    assert not trace.is_endless
    assert len(list(trace.plan(seed=0))) == 3
    assert len(list(trace.plan(seed=0, duration_s=5))) == 2
    assert len(list(trace.plan(seed=0, num_requests=1))) == 1


def test_prompts_that_are_too_long_are_refused_or_clipped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        workload(tmp_path, top="max_prompt_tokens: 550\n")
    assert [problem.split(": ")[0].rsplit(":")[-1] for problem in caught.value.problems] == [
        "1",
        "2",
    ]
    clipped = workload(tmp_path, ", clip_prompts: true", top="max_prompt_tokens: 550\n")
    first, second, third = (request.prompt for request in clipped.plan(seed=0))
    assert first.segment_tokens == second.segment_tokens == (512, 38)
    assert first.segment_ids[0] == second.segment_ids[0]
    assert third.num_tokens == 100


def test_a_trace_without_times_needs_a_rate_and_arrives_by_chance(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no timestamps: give it a share or rate_per_s"):
        workload(tmp_path, text=UNTIMED)
    requests = list(workload(tmp_path, ", rate_per_s: 10", UNTIMED).plan(seed=0, load_factor=2))
    assert len(requests) == 2000
    assert requests[-1].at_s == pytest.approx(100, rel=0.1)


def test_a_trace_of_one_instant_cannot_have_a_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="spans no time"):
        workload(tmp_path, ", rate_per_s: 10", MOONCAKE.splitlines()[0])


def test_rate_and_time_scale_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="time_scale follows from share or rate_per_s"):
        workload(tmp_path, ", rate_per_s: 10, time_scale: 2")


def test_a_trace_that_goes_bad_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    trace = workload(tmp_path)
    (tmp_path / "t.jsonl").write_text(MOONCAKE + "{\n")
    with pytest.raises(ConfigError, match=r"t\.jsonl:4: is not JSON"):
        list(trace.plan(seed=0))
