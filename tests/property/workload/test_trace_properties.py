"""Whatever a trace file holds, it is either replayed or refused by line."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.traces.formats import ReadOptions, TraceFormat, TraceRow
from hfx_sgl.workload.traces.reader import read_trace

OPTIONS = ReadOptions(block_tokens=16)
FORMATS = [form for form in TraceFormat if form is not TraceFormat.AUTO]

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
fields = st.sampled_from(
    ["timestamp", "input_length", "output_length", "hash_ids", "session_id", "delay", "text",
     "messages", "conversations", "max_tokens", "strange"]
)  # fmt: skip


def read(data: bytes, form: TraceFormat) -> list[TraceRow]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(data)
        return list(read_trace(path, form, OPTIONS))


def read_or_refuse(data: bytes, form: TraceFormat) -> None:
    try:
        rows = read(data, form)
    except ConfigError:
        return
    assert rows
    for row in rows:
        assert row.num_output_tokens >= 1
        assert row.own_tokens + sum(tokens for _, tokens in row.segments) >= 1
        assert all(tokens >= 1 for _, tokens in row.segments)
    instants = [row.at_s for row in rows if row.at_s is not None]
    assert instants == sorted(instants)
    assert len(instants) in (0, len(rows))


@given(st.binary(max_size=200), st.sampled_from(FORMATS))
@settings(deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, form: TraceFormat) -> None:
    read_or_refuse(data, form)


@given(
    st.lists(st.dictionaries(fields, values, max_size=6), max_size=5),
    st.sampled_from([TraceFormat.MOONCAKE, TraceFormat.AIPERF]),
)
@settings(deadline=None, max_examples=150)
def test_any_objects_are_read_or_refused(rows: list[object], form: TraceFormat) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode(errors="replace")
    read_or_refuse(data, form)


@given(
    st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=5),
    st.sampled_from(
        [
            (TraceFormat.AZURE, "TIMESTAMP,ContextTokens,GeneratedTokens"),
            (TraceFormat.BURSTGPT, "Timestamp,Request tokens,Response tokens"),
        ]
    ),
)
@settings(deadline=None)
def test_any_cells_are_read_or_refused(
    rows: list[list[str]], form: tuple[TraceFormat, str]
) -> None:
    data = "\n".join([form[1], *map(",".join, rows)]).encode(errors="replace")
    read_or_refuse(data, form[0])


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 200), st.integers(1, 99)), min_size=1)
)
@settings(deadline=None)
def test_good_rows_survive_every_format(rows: list[tuple[int, int, int]]) -> None:
    ordered = sorted(rows)
    mooncake = [
        {
            "timestamp": at_ms,
            "input_length": prompt,
            "output_length": output,
            "hash_ids": list(range(-(-prompt // 16))),
        }
        for at_ms, prompt, output in ordered
    ]
    lines = "".join(json.dumps(row) + "\n" for row in mooncake).encode()
    csv = "Timestamp,Request tokens,Response tokens\n" + "".join(
        f"{at_ms / 1000},{prompt},{output}\n" for at_ms, prompt, output in ordered
    )
    for data, form in (
        (lines, TraceFormat.MOONCAKE),
        (lines, TraceFormat.AIPERF),
        (csv.encode(), TraceFormat.BURSTGPT),
    ):
        found = [
            (row.at_s, row.own_tokens + sum(tokens for _, tokens in row.segments),
             row.num_output_tokens)
            for row in read(data, form)
        ]  # fmt: skip
        expected = [(at / 1000, prompt, output) for at, prompt, output in ordered]
        assert found == expected
