"""Mooncake traces (kvcache-ai/Mooncake, FAST'25)."""

from collections.abc import Iterator
from pathlib import Path

from hfx_sgl.workload.traces.fields import Ascending, finite_number, positive_int
from hfx_sgl.workload.traces.formats import ReadOptions, Report, TraceRow
from hfx_sgl.workload.traces.json_rows import hashed_segments, json_rows

FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")


def read_mooncake(path: Path, report: Report, options: ReadOptions) -> Iterator[TraceRow]:
    """Yield the rows of a trace; equal hash ids are equal blocks of a prompt."""
    order = Ascending("timestamp", report)
    for line, row in json_rows(path, report, known=FIELDS):
        at_ms = finite_number(row.get("timestamp"), line, "timestamp", report)
        prompt_tokens = positive_int(row.get("input_length"), line, "input_length", report)
        output_tokens = positive_int(row.get("output_length"), line, "output_length", report)
        if at_ms is None or prompt_tokens is None or output_tokens is None:
            continue
        segments = hashed_segments(
            row.get("hash_ids"), prompt_tokens, options.block_tokens, line, report
        )
        if segments is not None and order.check(line, at_ms):
            yield TraceRow(
                line=line,
                at_s=at_ms / 1000,
                segments=segments,
                own_tokens=0,
                num_output_tokens=output_tokens,
            )
