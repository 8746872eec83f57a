"""Rows of a CSV file by column name."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from hfx_sgl.workload.traces.formats import Report


def csv_rows(
    path: Path, report: Report, *, required: Collection[str], optional: Collection[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields of each row; a bad header is reported and ends it.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [name.strip() for name in next(reader, [])]
            if not _is_good_header(header, report, required, optional):
                return
            for row in reader:
                if len(row) == len(header):
                    yield reader.line_num, dict(zip(header, row, strict=True))
                elif row:
                    report(reader.line_num, "", f"has {len(row)} fields, not {len(header)}")
        except csv.Error as exc:
            report(reader.line_num, "", f"is not CSV: {exc}")


def _is_good_header(
    header: list[str], report: Report, required: Collection[str], optional: Collection[str]
) -> bool:
    unknown = [name for name in header if name not in required and name not in optional]
    missing = [name for name in required if name not in header]
    twice = [name for index, name in enumerate(header) if name in header[:index]]
    known = ", ".join((*required, *optional))
    for name in unknown:
        report(1, name, f"unknown column (the format has {known})")
    for name in missing:
        report(1, name, "column is missing")
    for name in twice:
        report(1, name, "column is given twice")
    return not (unknown or missing or twice)
