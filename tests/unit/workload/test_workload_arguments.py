import argparse
import math
from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.__main__ import main
from hfx_sgl.workload.arguments import PlannedLoad, add_workload_arguments, workload_from_args

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.0000000,4808,10
2023-11-16 18:17:05.0000000,3180,8
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "azure.csv"
    path.write_text(AZURE)
    return path


def parse(*argv: str) -> PlannedLoad:
    parser = argparse.ArgumentParser()
    add_workload_arguments(parser)
    return workload_from_args(parser.parse_args(argv))


def test_the_default_is_five_minutes_of_the_mix() -> None:
    load = parse()
    assert (load.workload.name, load.seed, load.load_factor) == ("mixed", 0, 1.0)
    assert (load.duration_s, load.num_requests) == (300, None)
    assert len(list(load.requests)) == len(list(load.requests)) > 1000


def test_flags_bound_and_scale_the_plan() -> None:
    load = parse("--num-requests", "50", "--load-factor", "4", "--seed", "9")
    assert (load.duration_s, load.load_factor, load.seed) == (math.inf, 4, 9)
    requests = list(load.requests)
    assert len(requests) == 50
    assert requests == list(load.workload.plan(seed=9, load_factor=4, num_requests=50))
    assert parse("--duration", "7", "--num-requests", "5").duration_s == 7


def test_a_trace_stands_for_the_workload(trace: Path) -> None:
    load = parse("--trace", f"azure:{trace}:code", "--time-scale", "3")
    assert (load.workload.name, load.duration_s) == ("azure", math.inf)
    assert [(r.at_s, r.class_name, r.slo.ttft_s) for r in load.requests] == [
        (0, "code", 0.5),
        (6, "code", 0.5),
    ]


def test_a_trace_joins_a_workload_that_is_named_too(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trace.parent)
    load = parse("--workload", "mixed", "--trace", "auto:azure.csv", "--slo-set", "distserve")
    assert load.workload.rate_per_s == pytest.approx(6)
    requests = list(load.requests)
    assert [r.request_id for r in requests if r.request_id.startswith("chat.2")] == [
        "chat.2-0",
        "chat.2-1",
    ]
    assert {r.slo.ttft_s for r in requests if r.class_name == "chat"} == {0.25}


def test_the_longest_prompt_is_a_flag(trace: Path) -> None:
    with pytest.raises(ConfigError, match=r"azure\.csv:2: prompt of 4808 tokens exceeds"):
        parse("--trace", f"azure:{trace}", "--max-prompt-tokens", "4000")
    clipped = parse("--trace", f"azure:{trace}", "--max-prompt-tokens", "4000", "--clip-prompts")
    assert [request.prompt.num_tokens for request in clipped.requests] == [4000, 3180]
    with pytest.raises(ConfigError, match="max_prompt_tokens: class chat: prompts of up to 8100"):
        parse("--max-prompt-tokens", "4000")


@pytest.mark.parametrize("text", ["azure", "csv:x.csv", "azure:"])
def test_a_bad_trace_flag_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"trace: must be FORMAT:PATH\[:CLASS\]"):
        parse("--trace", text)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--load-factor", "0"),
        ("--load-factor", "nan"),
        ("--load-factor", "inf"),
        ("--duration", "-3"),
        ("--num-requests", "1.5"),
        ("--time-scale", "x"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(flag, value)
    assert caught.value.code == 2
    assert f"argument {flag}" in capsys.readouterr().err


def test_the_command_prints_a_line_for_each_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--num-requests", "400"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["class", "requests", "share"]
    assert [line.split()[0] for line in lines] == [
        "agent", "batch", "chat", "code", "summarisation", "all",
    ]  # fmt: skip
    assert lines[-1].split()[1:3] == ["400", "100.0%"]


def test_the_command_reports_bad_input_with_status_2(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace.write_text(AZURE.replace("4808", "0").replace("3180", "-1"))
    assert main(["--trace", f"azure:{trace}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(": ")[1] for line in captured.err.splitlines()] == ["ContextTokens"] * 2
