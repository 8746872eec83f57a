"""BurstGPT traces (HPMLL/BurstGPT, arXiv:2401.17644)."""

from collections.abc import Iterator
from pathlib import Path

from hfx_sgl.workload.traces.csv_rows import csv_rows
from hfx_sgl.workload.traces.fields import Ascending, finite_number, positive_int
from hfx_sgl.workload.traces.formats import ReadOptions, Report, TraceRow

COLUMNS = ("Timestamp", "Request tokens", "Response tokens")
OTHER_COLUMNS = ("Model", "Total tokens", "Log Type", "Session ID", "Elapsed time")


def read_burstgpt(path: Path, report: Report, options: ReadOptions) -> Iterator[TraceRow]:
    """Yield the rows of a trace.

    Failed requests have no response tokens and are reported as bad; the files whose names say
    `without_fails` leave them out. A session id becomes a routing key; the trace does not say
    which part of a prompt a session repeats, so nothing is shared.
    """
    order = Ascending("Timestamp", report)
    for line, row in csv_rows(path, report, required=COLUMNS, optional=OTHER_COLUMNS):
        at_s = finite_number(row["Timestamp"], line, "Timestamp", report)
        prompt_tokens = positive_int(row["Request tokens"], line, "Request tokens", report)
        output_tokens = positive_int(row["Response tokens"], line, "Response tokens", report)
        if at_s is None or prompt_tokens is None or output_tokens is None:
            continue
        if order.check(line, at_s):
            yield TraceRow(
                line=line,
                at_s=at_s,
                segments=(),
                own_tokens=prompt_tokens,
                num_output_tokens=output_tokens,
                session=row.get("Session ID") or None,
            )
