"""The rows of measured tables: columns, parsing, and the checks on a single row."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFormat:
    """What one kind of step is measured against. The columns come before `latency_ms`."""

    file_name: str
    columns: tuple[str, ...]


PREFILL = TableFormat(
    file_name="prefill.csv", columns=("num_prompts", "new_tokens", "prefix_tokens")
)
DECODE = TableFormat(file_name="decode.csv", columns=("num_running", "context_tokens"))
MIXED = TableFormat(file_name="mixed.csv", columns=(*PREFILL.columns, *DECODE.columns))

LATENCY = "latency_ms"
_CAN_BE_ZERO = ("prefix_tokens",)
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured step: its coordinates in the order of the columns, and its time."""

    line: int
    key: tuple[int, ...]
    latency_ms: float


def read_rows(text: str, path: str, table: TableFormat, problems: list[str]) -> tuple[Row, ...]:
    """Return the good rows of a CSV text and add what is wrong with the others to `problems`.

    The columns may come in any order. `path` is only for the messages.
    """
    expected = (*table.columns, LATENCY)
    rows: list[Row] = []
    for line, cells in read_cells(text, path, expected, problems):
        row = parse_row(cells, expected, path, line, problems)
        if row is not None:
            rows.append(row)
    return tuple(rows)


def read_cells(
    text: str, path: str, columns: Sequence[str], problems: list[str]
) -> list[tuple[int, list[str]]]:
    """Return line number and cells of each row of a CSV text, the cells in the order of `columns`.

    What is wrong with its form goes to `problems`.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, None)
    if header is None:
        problems.append(f"{path}:1: header: the file is empty")
        return []
    wrong = _header_problems(header, columns)
    if wrong:
        problems.extend(f"{path}:1: {problem}" for problem in wrong)
        return []
    places = [header.index(name) for name in columns]
    found: list[tuple[int, list[str]]] = []
    for cells in lines:
        if len(cells) == len(header):
            found.append((lines.line_num, [cells[i] for i in places]))
        else:
            problems.append(
                f"{path}:{lines.line_num}: row: {len(cells)} cells, expected {len(header)}"
            )
    if lines.line_num == 1:
        problems.append(f"{path}:1: row: no rows")
    return found


def write_rows(table: TableFormat, rows: Sequence[Row]) -> str:
    """Return the rows as CSV text that `read_rows` takes."""
    lines = [",".join((*table.columns, LATENCY))]
    lines += [",".join((*map(str, row.key), repr(row.latency_ms))) for row in rows]
    return "\n".join(lines) + "\n"


def _header_problems(header: Sequence[str], expected: Sequence[str]) -> list[str]:
    problems = [f"{name}: column is missing" for name in expected if name not in header]
    problems += [f"{name}: unknown column" for name in header if name not in expected]
    problems += [f"{name}: column is there twice" for name in expected if header.count(name) > 1]
    return problems


def parse_row(
    cells: Sequence[str], names: Sequence[str], path: str, line: int, problems: list[str]
) -> Row | None:
    """Return the row of these cells, or None and why it is none in `problems`.

    `names` are those of the cells; the last is the latency.
    """
    where = f"{path}:{line}"
    key: list[int] = []
    for name, cell in zip(names[:-1], cells[:-1], strict=True):
        low = 0 if name in _CAN_BE_ZERO else 1
        if _WHOLE_NUMBER.fullmatch(cell) and int(cell) >= low:
            key.append(int(cell))
        else:
            problems.append(f"{where}: {name}: must be a whole number of at least {low} ({cell!r})")
    latency_ms = _parse_latency(cells[-1])
    if latency_ms is None:
        problems.append(f"{where}: {LATENCY}: must be a finite number above 0 ({cells[-1]!r})")
        return None
    return Row(line, tuple(key), latency_ms) if len(key) == len(names) - 1 else None


def _parse_latency(cell: str) -> float | None:
    try:
        latency_ms = float(cell)
    except ValueError:
        return None
    return latency_ms if isfinite(latency_ms) and latency_ms > 0.0 else None
