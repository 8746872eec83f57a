import shlex
from pathlib import Path
from typing import Any

import pytest
from hfx_transfer.sglang.weights.compatibility import (
    common_version,
    disk_problem,
    reason_against,
)
from hfx_transfer.sglang.weights.report import (
    SourceReport,
    parse_build,
    parse_identity,
    parse_load,
    parse_rank,
)
from hfx_transfer.sglang.weights.spec import CloneSpec
from support.fake_sglang import VERSION, loads, model_info, rank_info, server_info


def report(url: str = "http://a:1", server: Any = None, **model: Any) -> SourceReport:
    return SourceReport(
        url=url,
        identity=parse_identity(model_info(**model)),
        build=parse_build(server_info(**(server or {}))),
        ranks=(parse_rank(rank_info()),),
        load=parse_load(loads()),
    )


def spec(flags: str = "") -> CloneSpec:
    text = f"--model-path /elsewhere --served-model-name tiny --device cpu {flags}"
    return CloneSpec(args=tuple(shlex.split(text)))


def test_the_same_model_in_another_folder_fits() -> None:
    assert reason_against(spec(), report(), sglang_version=VERSION) is None


def test_the_same_folder_under_another_name_fits() -> None:
    wanted = spec("--model-path /models/tiny --served-model-name alias")
    assert reason_against(wanted, report(), sglang_version=VERSION) is None


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("--served-model-name other", {}, "it serves tiny"),
    ("", {"load_format": "dummy"}, "random"),
    ("", {"server": {"version": "0.5.22"}}, "it runs SGLang 0.5.22, the new server 0.5.23"),
    ("--device cuda", {}, "its weights are on cpu, wanted is cuda"),
    ("--weight-version v2", {"weight_version": "v1"}, "weight version v1, wanted is v2"),
    ("--tp-size 2", {}, "tp_size is 1, wanted is 2"),
    (
        "",
        {"server": {"launch_command": "--quantization fp8 --dtype half"}},
        "dtype is half, wanted is auto, quantization is fp8, wanted is not set",
    ),
]


@pytest.mark.parametrize(("flags", "theirs", "reason"), CASES)
def test_why_weights_are_not_the_ones_that_are_needed(
    flags: str, theirs: dict[str, Any], reason: str
) -> None:
    found = reason_against(spec(flags), report(**theirs), sglang_version=VERSION)
    assert found is not None
    assert reason in found


def test_a_version_that_is_asked_for_is_taken() -> None:
    source = report(weight_version="v2")
    assert reason_against(spec("--weight-version v2"), source, sglang_version=VERSION) is None


def test_most_hold_the_common_version_and_of_equals_the_first() -> None:
    a, b = report(weight_version="a"), report(weight_version="b")
    assert common_version([a, b, b]) == "b"
    assert common_version([a, b]) == "a"
    assert common_version([]) is None


def test_what_the_disk_has(tmp_path: Path) -> None:
    assert disk_problem("org/model") is None
    (tmp_path / "config.json").touch()
    assert disk_problem(str(tmp_path)) == f"{tmp_path} holds no weights"
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert disk_problem(str(tmp_path)) is None
