from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.load import load_workload

GOOD = """\
rate_per_s: 4
sources:
  - class: chat
    share: 1
    prompt_tokens: {kind: lognormal, median: 100, p90: 300, min: 1, max: 1000}
    output_tokens: {kind: fixed, value: 10}
"""


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "w.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_workload(path)
    return [problem.replace(f"{path}", "w.yaml") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("share: 1", "shares: 1", "w.yaml:4: sources[0].shares: unknown key"),
        ("p90: 300", "p90: 50", "w.yaml:5: sources[0].prompt_tokens: must hold: min <= median"),
        ("median: 100, ", "", "w.yaml:5: sources[0].prompt_tokens.median: is missing"),
        ("kind: fixed", "kind: const", "w.yaml:6: sources[0].output_tokens: Input tag 'const'"),
        ("class: chat", "class: a b", "w.yaml:3: sources[0].class: String should match"),
        ("share: 1", "share: 0.5", "w.yaml:2: sources: the shares must add up to 1 (0.5)"),
        ("rate_per_s: 4\n", "", "w.yaml:1: rate_per_s is missing"),
        ("rate_per_s: 4", "rate_per_s: -4", "w.yaml:1: rate_per_s: Input should be greater than 0"),
        ("rate_per_s: 4", "rate_per_s: .inf", "w.yaml:1: rate_per_s: Input should be a finite"),
        ("    share: 1\n", "", "w.yaml:3: sources[0]: needs share or rate_per_s"),
        ("share: 1", "share: 1\n    rate_per_s: 2", "w.yaml:3: sources[0]: give share or"),
        ("share: 1", "arrivals: {cv: 2}", "w.yaml:4: sources[0].arrivals: cv belongs to process"),
        ("value: 10", "value: 10, value: 11", "w.yaml:6: value: given twice"),
        ("max: 1000", "max: 90000", "w.yaml:1: class chat: prompts of up to 90000 tokens exceed"),
        ("rate_per_s: 4", "slo_set: mixd\nrate_per_s: 4", "slo_set: there is no 'mixd', did you"),
        ("class: chat", "class: poetry\n    slo: poem", ""),
        ("sources:", "sources: [", "w.yaml:"),
        ("sources:", "sources: []\nx:", "w.yaml:2: sources: there must be at least one"),
        ("{kind: fixed, value: 10}", "{kind: quantiles, points: []}",
         "w.yaml:6: sources[0].output_tokens: points must begin at share 0"),
        ("{kind: fixed, value: 10}", "{kind: quantiles, points: [[0, 1], [0, 3], [1, 4]]}",
         "w.yaml:6: sources[0].output_tokens: shares must rise"),
        ("{kind: fixed, value: 10}", "{kind: quantiles, points: [[0, 5], [1, 4]]}",
         "w.yaml:6: sources[0].output_tokens: values must not fall"),
        ("{kind: fixed, value: 10}", "{kind: uniform, min: 5, max: 4}",
         "w.yaml:6: sources[0].output_tokens: min must not exceed max (5 > 4)"),
        ("sources:", "rate: 1\nsources:", "w.yaml:2: rate: unknown key"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_line_and_field(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if not problem:
        (tmp_path / "w.yaml").write_text(text)
        with pytest.raises(ConfigError, match="mixed has no entry 'poem'"):
            load_workload(tmp_path / "w.yaml", "mixed")
        return
    assert any(line.startswith(problem) for line in problems_of(tmp_path, text))


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("rate_per_s: 4", "rate_per_s: 0").replace("value: 10", "value: -1")
    fields = [problem.split(": ")[1] for problem in problems_of(tmp_path, text)]
    assert fields == ["rate_per_s", "sources[0].output_tokens.value"]


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "- 1\n") == ["w.yaml:1: expected `name: value` lines"]


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_workload(tmp_path / "none.yaml")


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="there is no 'mixxed', did you mean mixed"):
        load_workload("mixxed")


def test_two_sources_of_one_class_differ(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    block = GOOD[GOOD.index("  - class") :].replace("share: 1", "share: 0.5")
    path.write_text("rate_per_s: 4\nsources:\n" + block + block)
    requests = list(load_workload(path).plan(seed=0, num_requests=400))
    assert len({request.request_id for request in requests}) == 400
    assert len({request.prompt.segment_ids for request in requests}) == 400
    assert load_workload(path).class_names() == ("chat",)
