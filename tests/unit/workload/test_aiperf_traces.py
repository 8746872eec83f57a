import json
from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.traces.formats import ReadOptions, TraceFormat, TraceRow
from hfx_sgl.workload.traces.prompts import PromptMaker
from hfx_sgl.workload.traces.reader import read_trace


def rows(tmp_path: Path, *objects: object) -> list[TraceRow]:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in objects))
    return list(read_trace(path, TraceFormat.AIPERF, ReadOptions(block_tokens=4)))


def problem_of(tmp_path: Path, *objects: object) -> str:
    with pytest.raises(ConfigError) as caught:
        rows(tmp_path, *objects)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{tmp_path}/t.jsonl:")


@pytest.mark.parametrize(
    ("row", "num_prompt_tokens", "num_output_tokens"),
    [
        ({"input_length": 10, "output_length": 4}, 10, 4),
        ({"input_length": 10, "output_length": 4, "hash_ids": [1, 2, 3]}, 10, 4),
        ({"text_input": "abcdefghi", "output_length": 4}, 3, 4),
        ({"text": "abcdefgh", "output_length": 4}, 2, 4),
        ({"messages": [{"role": "user", "content": "abcd"}], "max_tokens": 9}, 1, 9),
        ({"messages": [{"role": "system", "content": "ab"}, {"role": "user", "content": "cd"}],
          "max_completion_tokens": 9}, 2, 9),
        ({"conversations": [{"from": "human", "value": "abcde"}, {"value": "wxyz"}]}, 2, 1),
        ({"conversation": [{"content": "abcde"}, {"content": "wxyz"}], "output_length": 3}, 2, 3),
    ],
)  # fmt: skip
def test_prompts_are_given_in_several_ways(
    tmp_path: Path, row: object, num_prompt_tokens: int, num_output_tokens: int
) -> None:
    (found,) = rows(tmp_path, row)
    assert PromptMaker("0").make(found).num_tokens == num_prompt_tokens
    assert found.num_output_tokens == num_output_tokens


def test_equal_messages_are_equal_segments(tmp_path: Path) -> None:
    system = {"role": "system", "content": "be good to people"}
    first, second = rows(
        tmp_path,
        {"messages": [system, {"role": "user", "content": "hello"}], "max_tokens": 1},
        {"messages": [system, {"role": "user", "content": "goodbye"}], "max_tokens": 1},
    )
    assert first.segments[0] == second.segments[0]
    assert first.segments[1] != second.segments[1]


def test_turns_with_lengths_grow_and_delays_count_from_the_turn_before(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        {"session_id": "a", "timestamp": 1000, "input_length": 10, "output_length": 5},
        {"session_id": "a", "delay": 4000, "input_length": 3, "output_length": 6},
        {"session_id": "b", "timestamp": 2000, "input_length": 7, "output_length": 2},
        {"session_id": "a", "delay": 500, "input_length": 2, "output_length": 1},
    )
    assert [(row.session, row.at_s) for row in found] == [
        ("a", 1.0), ("b", 2.0), ("a", 5.0), ("a", 5.5),
    ]  # fmt: skip
    maker = PromptMaker("0")
    first, other, second, third = map(maker.make, found)
    assert second.segment_ids[:1] == first.segment_ids
    assert second.segment_tokens == (10, 5, 3)
    assert third.segment_ids[:3] == second.segment_ids
    assert third.segment_tokens == (10, 5, 3, 6, 2)
    assert other.segment_tokens == (7,)
    assert not set(other.segment_ids) & set(third.segment_ids)


def test_turns_with_whole_messages_do_not_grow(tmp_path: Path) -> None:
    message = {"role": "user", "content": "hello"}
    found = rows(tmp_path, *[{"session_id": 1, "messages": [message], "max_tokens": 1}] * 2)
    maker = PromptMaker("0")
    assert maker.make(found[0]) == maker.make(found[1])


def test_rows_without_times_keep_their_order(tmp_path: Path) -> None:
    found = rows(tmp_path, *({"input_length": n, "output_length": 1} for n in (3, 1, 2)))
    assert [(row.at_s, row.own_tokens) for row in found] == [(None, 3), (None, 1), (None, 2)]


GOOD = {"timestamp": 0, "input_length": 10, "output_length": 4}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"output_length": 4}, "2: input_length: is missing (a prompt is given by one of"),
        ({"input_length": 1, "text": "a", "output_length": 4}, "2: text: a row has one prompt"),
        ({"text": "a", "hash_ids": [1], "output_length": 4}, "2: hash_ids: belongs to input"),
        ({"text": "", "output_length": 4}, "2: text: must hold text"),
        ({"messages": "hello", "output_length": 4}, "2: messages: must hold text"),
        ({"messages": [{"role": "user"}], "output_length": 4}, "2: messages: must hold text"),
        ({"messages": [3], "output_length": 4}, "2: messages: must hold text"),
        ({"input_length": 4}, "2: output_length: is missing"),
        ({"input_length": 4, "output_length": 0}, "2: output_length: must be a whole number"),
        ({"input_length": 9, "output_length": 1, "hash_ids": [1]}, "2: hash_ids: 9 tokens are 3"),
        ({**GOOD, "timestamp": "soon"}, "2: timestamp: must be a number ('soon')"),
        ({"input_length": 4, "output_length": 1, "delay": 5}, "2: delay: needs a turn before it"),
        ({**GOOD, "timestamp": None, "delay": -5}, "2: delay: must not be negative (-5)"),
        ({**GOOD, "session_id": [1]}, "2: session_id: must be text"),
        ({**GOOD, "prompt": "x"}, "2: prompt: unknown field"),
        ({"input_length": 4, "output_length": 1}, "2: timestamp: is missing, though other rows"),
        ([], "2: must be an object"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_line_and_field(tmp_path: Path, row: object, problem: str) -> None:
    assert problem_of(tmp_path, GOOD, row).startswith(problem)
