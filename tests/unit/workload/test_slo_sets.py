from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.slo import Slo
from hfx_sgl.workload.load import load_workload
from hfx_sgl.workload.slo_set import load_slo_set, slo_set_names

OWN = """\
sets:
  day:
    classes: {chat: {ttft_s: 1}, default: {e2e_s: 60}}
  night:
    classes: {chat: {ttft_s: 2}}
"""


@pytest.mark.parametrize(
    ("name", "entry", "slo"),
    [
        ("distserve", "chat", Slo(ttft_s=0.25, tpot_s=0.1)),
        ("distserve", "code", Slo(ttft_s=0.125, tpot_s=0.2)),
        ("distserve-66b", "chat", Slo(ttft_s=0.4, tpot_s=0.1)),
        ("distserve", "summarisation", Slo(ttft_s=15.0, tpot_s=0.15)),
        ("mlperf-llama3.1-8b-server", "chat", Slo(ttft_s=2.0, tpot_s=0.1)),
        ("mlperf-llama3.1-8b-interactive", "batch", Slo(ttft_s=0.5, tpot_s=0.03)),
        ("mlperf-deepseek-r1-interactive", "code", Slo(ttft_s=1.5, tpot_s=0.015)),
        ("mixed", "code", Slo(ttft_s=0.5, tpot_s=0.1)),
    ],
)
def test_shipped_sets_have_the_published_values(name: str, entry: str, slo: Slo) -> None:
    assert load_slo_set(name).of(entry) == slo


@pytest.mark.parametrize("name", slo_set_names())
def test_every_shipped_set_covers_the_default_mix(name: str) -> None:
    workload = load_workload("mixed", name)
    assert [source.slo for source in workload.sources] == [
        load_slo_set(name).of(source.class_name) for source in workload.sources
    ]


def test_a_set_of_a_file_is_chosen_by_path_and_name(tmp_path: Path) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(OWN)
    day = load_slo_set(f"{path}#day")
    assert (day.of("chat"), day.of("code")) == (Slo(ttft_s=1), Slo(e2e_s=60))
    with pytest.raises(ConfigError, match="night has no entry 'code' and no default"):
        load_slo_set(f"{path}#night").of("code")
    with pytest.raises(ConfigError, match="has day, night; choose one"):
        load_slo_set(str(path))


def test_the_slo_set_of_a_workload_can_be_replaced_or_dropped() -> None:
    distserve = load_workload("mixed", "distserve")
    assert (distserve.slo_set, distserve.sources[0].slo.ttft_s) == ("distserve", 0.25)
    assert load_workload("mixed").slo_set == "mixed"
    assert {source.slo for source in load_workload("mixed", "none").sources} == {Slo()}


@pytest.mark.parametrize("text", ["0", "-1", "soon"])
def test_a_bound_that_is_none_is_refused_by_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slo.yaml"
    path.write_text(OWN.replace("ttft_s: 2", f"ttft_s: {text}"))
    with pytest.raises(ConfigError, match=r"slo\.yaml:5: sets\.night\.classes\.chat\.ttft_s: "):
        load_slo_set(f"{path}#night")
