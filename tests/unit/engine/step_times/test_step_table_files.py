"""Measured tables as files: what is wrong with one is said with file, line and field."""

from pathlib import Path

import pytest

from hfx_sgl.engine.step_times.files import read_step_times
from hfx_sgl.engine.step_times.rows import PREFILL, Row, read_rows, write_rows
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.errors import ConfigError

GOOD = {
    "prefill.csv": """num_prompts,new_tokens,prefix_tokens,latency_ms
1,1,0,8
1,100,0,9
1,200,0,10
1,1,500,8
1,100,500,11
2,1,0,8
2,100,0,10
""",
    "decode.csv": """num_running,context_tokens,latency_ms
1,10,6
1,20,7
1,30,8
4,10,7
4,20,9
""",
    "mixed.csv": """num_prompts,new_tokens,prefix_tokens,num_running,context_tokens,latency_ms
1,100,0,1,10,9.5
1,100,0,4,10,9.9
""",
}


def write(folder: Path, **replaced: str) -> Path:
    for name, text in GOOD.items():
        (folder / name).write_text(replaced.get(name.removesuffix(".csv"), text), encoding="utf-8")
    return folder


def edited(name: str, old: str, new: str) -> str:
    assert old in GOOD[f"{name}.csv"]
    return GOOD[f"{name}.csv"].replace(old, new, 1)


def problems_of(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_step_times(folder)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_good_files_are_read_and_scaled(tmp_path: Path) -> None:
    step_times = read_step_times(write(tmp_path), 2.0)
    assert step_times.prefill_s([PrefillPart(100, 0)]) == 0.018
    assert step_times.decode_s(4, 40) == 0.014
    assert step_times.mixed_s([PrefillPart(100, 0)], 4, 40) == pytest.approx(0.0198)


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    swapped = "latency_ms,context_tokens,num_running\n6,10,1\n7,20,1\n"
    assert read_step_times(write(tmp_path, decode=swapped)).decode_s(1, 20) == 0.007


def test_mixed_rows_may_be_missing(tmp_path: Path) -> None:
    (write(tmp_path) / "mixed.csv").unlink()
    step_times = read_step_times(tmp_path)
    step_times.mixed_s([PrefillPart(100, 0)], 1, 10)
    assert step_times.num_extrapolated == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("prefill", "", "prefill.csv:1: header: the file is empty"),
        (
            "decode",
            "num_running,context_tokens,latency_ms\n",
            "decode.csv:1: row: no rows",
        ),
        (
            "decode",
            edited("decode", "context_tokens", "context"),
            "decode.csv:1: context_tokens: column is missing",
        ),
        (
            "decode",
            edited("decode", "context_tokens", "context_tokens,gpu"),
            "decode.csv:1: gpu: unknown column",
        ),
        (
            "decode",
            edited("decode", "context_tokens", "context_tokens,num_running"),
            "decode.csv:1: num_running: column is there twice",
        ),
        (
            "decode",
            edited("decode", "1,20,7", "1,20"),
            "decode.csv:3: row: 2 cells, expected 3",
        ),
        (
            "decode",
            edited("decode", "1,20,7", "1,twenty,7"),
            "decode.csv:3: context_tokens: must be a whole number of at least 1 ('twenty')",
        ),
        (
            "decode",
            edited("decode", "1,20,7", "0,20,7"),
            "decode.csv:3: num_running: must be a whole number of at least 1 ('0')",
        ),
        *[
            (
                "decode",
                edited("decode", "1,20,7", f"1,20,{bad}"),
                f"decode.csv:3: latency_ms: must be a finite number above 0 ({bad!r})",
            )
            for bad in ("nan", "inf", "0", "-1", "fast", "")
        ],
        (
            "decode",
            edited("decode", "1,30,8", "1,20,8"),
            "decode.csv:4: num_running,context_tokens: same as line 3",
        ),
        (
            "decode",
            edited("decode", "4,10,7\n", ""),
            "decode.csv:5: context_tokens: a gap, there is no row with context_tokens 10"
            " for num_running 4",
        ),
        (
            "decode",
            edited("decode", "4,20,9\n", ""),
            "decode.csv:5: context_tokens: needs at least two values to interpolate between",
        ),
        (
            "prefill",
            edited("prefill", "1,100,0,9\n", ""),
            "prefill.csv:3: new_tokens: a gap, there is no row with new_tokens 100"
            " for prefix_tokens 0",
        ),
        (
            "prefill",
            edited("prefill", "1,200,0,10\n", "1,200,500,10\n"),
            "prefill.csv:4: prefix_tokens: a gap, there is no row with prefix_tokens 0"
            " for new_tokens 200",
        ),
        (
            "prefill",
            edited("prefill", "2,100,0,10", "2,100,500,10"),
            "prefill.csv:8: prefix_tokens: rows of several prompts are measured without a prefix"
            " (500)",
        ),
        (
            "prefill",
            edited("prefill", "2,100,0,10\n", ""),
            "prefill.csv:7: new_tokens: needs at least two values to interpolate between",
        ),
        (
            "prefill",
            "num_prompts,new_tokens,prefix_tokens,latency_ms\n1,1,5,8\n1,2,5,8\n",
            "prefill.csv:1: prefix_tokens: no row of one prompt without a prefix",
        ),
        (
            "mixed",
            GOOD["mixed.csv"] + "2,100,0,4,10,12\n",
            "mixed.csv:1: num_running: no row for 200 new tokens in all and num_running 1",
        ),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert expected in problems_of(write(tmp_path, **{name: text}))


def test_all_problems_of_all_files_are_listed(tmp_path: Path) -> None:
    write(tmp_path, prefill=edited("prefill", "1,1,0,8", "1,x,-1,8"), decode="")
    (tmp_path / "mixed.csv").write_bytes(b"\xff\xfe")
    assert problems_of(tmp_path) == [
        "prefill.csv:2: new_tokens: must be a whole number of at least 1 ('x')",
        "prefill.csv:2: prefix_tokens: must be a whole number of at least 0 ('-1')",
        "decode.csv:1: header: the file is empty",
        "mixed.csv: is not UTF-8 text",
    ]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "decode.csv").unlink()
    assert problems_of(tmp_path) == ["decode.csv: cannot be read: No such file or directory"]


def test_written_rows_are_read_back() -> None:
    rows = [Row(2, (1, 5, 0), 0.1), Row(3, (1, 6, 0), 123456.7891)]
    problems: list[str] = []
    assert read_rows(write_rows(PREFILL, rows), "x", PREFILL, problems) == tuple(rows)
    assert problems == []
