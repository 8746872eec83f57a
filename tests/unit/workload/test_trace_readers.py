from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.traces.formats import ReadOptions, TraceFormat, TraceRow
from hfx_sgl.workload.traces.reader import detect_format, read_trace

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0319600,110,27
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45.5,GPT-4,1087,230,1317,API log
"""
SESSIONS = """\
Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,s1,0.2,ChatGPT,472,18,490,Conversation log
"""
MOONCAKE = """\
{"timestamp": 0, "input_length": 6, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 2500, "input_length": 9, "output_length": 7, "hash_ids": [0, 2, 3]}
"""
BLOCKS = ReadOptions(block_tokens=4)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text)
    return path


def rows(tmp_path: Path, text: str, form: TraceFormat = TraceFormat.AUTO) -> list[TraceRow]:
    return list(read_trace(write(tmp_path, text), form, BLOCKS))


def problems_of(tmp_path: Path, text: str, form: TraceFormat = TraceFormat.AUTO) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        rows(tmp_path, text, form)
    return [problem.replace(f"{tmp_path / 'trace'}", "t") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (AZURE, TraceFormat.AZURE),
        (BURSTGPT, TraceFormat.BURSTGPT),
        (SESSIONS, TraceFormat.BURSTGPT),
        (MOONCAKE, TraceFormat.MOONCAKE),
        ('\n{"input_length": 6, "output_length": 5}\n', TraceFormat.AIPERF),
        ('{"messages": ', TraceFormat.AIPERF),
    ],
)
def test_a_format_is_known_by_its_first_line(tmp_path: Path, text: str, form: TraceFormat) -> None:
    assert detect_format(write(tmp_path, text)) is form


def test_azure_rows_have_times_and_lengths(tmp_path: Path) -> None:
    first, second, third = rows(tmp_path, AZURE)
    assert first.at_s is not None
    assert second.at_s is not None
    assert second.at_s - first.at_s == pytest.approx(0.052, abs=1e-5)
    assert third.at_s == second.at_s
    assert [(row.own_tokens, row.num_output_tokens) for row in (first, second, third)] == [
        (4808, 10),
        (3180, 8),
        (110, 27),
    ]


def test_a_zone_counts_and_its_lack_is_utc(tmp_path: Path) -> None:
    text = AZURE.replace("03.9799600,", "03.979960+00:00,")
    assert rows(tmp_path, text) == rows(tmp_path, AZURE)


def test_burstgpt_rows_have_times_lengths_and_sessions(tmp_path: Path) -> None:
    first, second = rows(tmp_path, BURSTGPT)
    assert (first.at_s, first.own_tokens, first.num_output_tokens) == (5, 472, 18)
    assert (second.at_s, second.own_tokens, second.num_output_tokens) == (45.5, 1087, 230)
    assert first.session is None
    (row,) = rows(tmp_path, SESSIONS)
    assert (row.session, row.grows) == ("s1", False)


def test_mooncake_rows_have_a_segment_for_each_block(tmp_path: Path) -> None:
    first, second = rows(tmp_path, MOONCAKE)
    assert first.segments == ((0, 4), (1, 2))
    assert second.segments == ((0, 4), (2, 4), (3, 1))
    assert (first.at_s, second.at_s) == (0, 2.5)
    assert (first.own_tokens, first.num_output_tokens) == (0, 5)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("ContextTokens", "Context", "t:1: Context: unknown column (the format has TIMESTAMP,"),
        ("ContextTokens,", "", "t:1: ContextTokens: column is missing"),
        ("ContextTokens", "TIMESTAMP", "t:1: TIMESTAMP: column is given twice"),
        ("3180,8", "0,8", "t:3: ContextTokens: must be a whole number of at least 1 (0)"),
        ("3180,8", "3180,-8", "t:3: GeneratedTokens: must be a whole number of at least 1 (-8)"),
        ("3180,8", "3180,8.5", "t:3: GeneratedTokens: must be a whole number of at least 1 (8.5)"),
        ("3180,8", "x,8", "t:3: ContextTokens: must be a number ('x')"),
        ("3180,8", "nan,8", "t:3: ContextTokens: must be a number ('nan')"),
        ("3180,8", "1e999,8", "t:3: ContextTokens: must be a number ('1e999')"),
        ("3180,8", ",8", "t:3: ContextTokens: is missing"),
        ("3180,8", "3180", "t:3: has 2 fields, not 3"),
        ("18:17:04.0319600,110", "18:17:04.0219600,110", "t:4: TIMESTAMP: is earlier than"),
        ("2023-11-16 18:17:03.9799600", "yesterday", "t:2: TIMESTAMP: must be a date and time"),
    ],
)
def test_a_bad_azure_trace_is_refused_by_line_and_field(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in AZURE
    found = problems_of(tmp_path, AZURE.replace(old, new, 1))
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("1087,230", "1087,0", "t:3: Response tokens: must be a whole number of at least 1 (0)"),
        ("45.5,", "4,", "t:3: Timestamp: is earlier than in a row before; sort the trace"),
        ("Log Type", "Kind", "t:1: Kind: unknown column"),
    ],
)
def test_a_bad_burstgpt_trace_is_refused_by_line_and_field(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    (found,) = problems_of(tmp_path, BURSTGPT.replace(old, new, 1))
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"hash_ids": [0, 2, 3]', '"hash_ids": [0, 2]', "t:2: hash_ids: 9 tokens are 3"),
        ('"hash_ids": [0, 2, 3]', '"hash_ids": ["a"]', "t:2: hash_ids: must be a list of whole"),
        (', "hash_ids": [0, 2, 3]', "", "t:2: hash_ids: must be a list of whole"),
        ('"input_length": 9', '"input_length": -9', "t:2: input_length: must be a whole number"),
        ('"output_length": 7', '"output_length": true', "t:2: output_length: must be a number"),
        ('"timestamp": 2500', '"timestamp": -1', "t:2: timestamp: is earlier than"),
        ('"timestamp": 2500', '"time": 2500', "t:2: time: unknown field"),
        ('{"timestamp": 2500', '{"timestamp": ', "t:2: is not JSON: "),
        ('{"timestamp": 2500', '[{"timestamp": 2500', "t:2: is not JSON: "),
    ],
)  # fmt: skip
def test_a_bad_mooncake_trace_is_refused_by_line_and_field(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in MOONCAKE
    (found,) = problems_of(tmp_path, MOONCAKE.replace(old, new))
    assert found.startswith(problem)


def test_the_first_twenty_problems_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    text = AZURE + "2023-11-16 18:17:05,0,1\n" * 30
    found = problems_of(tmp_path, text)
    assert len(found) == 21
    assert found[0].startswith("t:5: ContextTokens")
    assert found[19].startswith("t:24: ContextTokens")
    assert found[20] == "... and 10 more"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "t: is empty"),
        ("\n \n", "t: is empty"),
        (AZURE.splitlines()[0] + "\n", "t: has no requests"),
        ("a,b\n1,2\n", "t:1: looks like none of azure, burstgpt, mooncake, aiperf"),
        ("[1]\n", "t:1: looks like none of"),
    ],
)
def test_a_file_without_a_trace_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (found,) = problems_of(tmp_path, text)
    assert found.startswith(problem)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: cannot be read: No such file"):
        detect_format(tmp_path / "none")
    with pytest.raises(ConfigError, match="none: cannot be read: No such file"):
        list(read_trace(tmp_path / "none", TraceFormat.AZURE, BLOCKS))
    path = tmp_path / "latin"
    path.write_bytes(AZURE.encode() + b"\xff\xfe,1,1\n")
    with pytest.raises(ConfigError, match="latin: is not UTF-8 text"):
        list(read_trace(path, TraceFormat.AZURE, BLOCKS))
