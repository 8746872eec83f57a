"""Reads a user's own measurements of steps from one CSV file."""

from pathlib import Path

from hfx_sgl.engine.step_times.grid import check_decode, check_mixed, check_prefill
from hfx_sgl.engine.step_times.rows import (
    DECODE,
    LATENCY,
    MIXED,
    PREFILL,
    Row,
    TableFormat,
    parse_row,
    read_cells,
)
from hfx_sgl.errors import ConfigError

COLUMNS = ("kind", *MIXED.columns, LATENCY)
KINDS = {"prefill": PREFILL, "decode": DECODE, "mixed": MIXED}


def read_measurements(path: Path) -> dict[TableFormat, list[Row]]:
    """Return the rows by kind.

    Raises:
        ConfigError: one `file:line: field: message` for each problem.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text") from exc
    problems: list[str] = []
    rows: dict[TableFormat, list[Row]] = {table: [] for table in KINDS.values()}
    for line, cells in read_cells(text, str(path), COLUMNS, problems):
        table = KINDS.get(cells[0])
        if table is None:
            problems.append(f"{path}:{line}: kind: must be one of {', '.join(KINDS)}")
            continue
        row = _parse(dict(zip(COLUMNS, cells, strict=True)), table, str(path), line, problems)
        if row is not None:
            rows[table].append(row)
    if not problems:
        problems += [
            f"{path}:1: kind: no row of kind {kind}"
            for kind in ("prefill", "decode")
            if not rows[KINDS[kind]]
        ]
        problems += check_prefill(rows[PREFILL], str(path))
        problems += check_decode(rows[DECODE], str(path))
        problems += check_mixed(rows[MIXED], str(path))
    if problems:
        raise ConfigError(*problems)
    return {table: sorted(found, key=lambda row: row.key) for table, found in rows.items()}


def _parse(
    cells: dict[str, str], table: TableFormat, path: str, line: int, problems: list[str]
) -> Row | None:
    names = (*table.columns, LATENCY)
    foreign = [name for name in cells if name not in ("kind", *names) and cells[name]]
    problems += [
        f"{path}:{line}: {name}: does not belong to kind {cells['kind']}" for name in foreign
    ]
    return parse_row([cells[name] for name in names], names, path, line, problems)
