"""Azure LLM inference traces 2023 and 2024 (Azure/AzurePublicDataset; Splitwise, ISCA'24)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from hfx_sgl.workload.traces.csv_rows import csv_rows
from hfx_sgl.workload.traces.fields import Ascending, positive_int
from hfx_sgl.workload.traces.formats import ReadOptions, Report, TraceRow

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read_azure(path: Path, report: Report, options: ReadOptions) -> Iterator[TraceRow]:
    """Yield the rows of a trace. Prompts share nothing: the trace does not say what they are."""
    order = Ascending("TIMESTAMP", report)
    for line, row in csv_rows(path, report, required=COLUMNS):
        at_s = _instant(row["TIMESTAMP"], line, report)
        prompt_tokens = positive_int(row["ContextTokens"], line, "ContextTokens", report)
        output_tokens = positive_int(row["GeneratedTokens"], line, "GeneratedTokens", report)
        if at_s is None or prompt_tokens is None or output_tokens is None:
            continue
        if order.check(line, at_s):
            yield TraceRow(
                line=line,
                at_s=at_s,
                segments=(),
                own_tokens=prompt_tokens,
                num_output_tokens=output_tokens,
            )


def _instant(text: str, line: int, report: Report) -> float | None:
    """Return seconds; digits beyond the microsecond are dropped, a missing zone is UTC."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        report(line, "TIMESTAMP", f"must be a date and time ({text[:40]!r})")
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
