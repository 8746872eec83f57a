"""Whether measured rows form a grid that can be interpolated."""

from collections.abc import Iterable, Sequence

from hfx_sgl.engine.step_times.rows import DECODE, MIXED, PREFILL, Row, TableFormat


def check_prefill(rows: Sequence[Row], path: str) -> list[str]:
    """Return the problems of a prefill table.

    Rows of one prompt form a grid of new tokens and prefixes, which may end ragged. Rows of several
    prompts have no prefix.
    """
    problems = _duplicates(rows, path, PREFILL)
    single = [row for row in rows if row.key[0] == 1]
    problems += _gaps(single, path, PREFILL, 1, 2)
    problems += _gaps(single, path, PREFILL, 2, 1)
    by_prefix = _group(single, 2)
    if 0 not in by_prefix:
        problems.append(f"{path}:1: prefix_tokens: no row of one prompt without a prefix")
    for row in rows:
        if row.key[0] > 1 and row.key[2] > 0:
            problems.append(
                f"{path}:{row.line}: prefix_tokens: rows of several prompts are measured without"
                f" a prefix ({row.key[2]})"
            )
    for prefix_rows in by_prefix.values():
        problems += _too_short(prefix_rows, path, "new_tokens")
    for num_prompts, prompt_rows in _group(rows, 0).items():
        if num_prompts > 1:
            problems += _too_short(prompt_rows, path, "new_tokens")
    return problems


def check_decode(rows: Sequence[Row], path: str) -> list[str]:
    """Return the problems of a decode table: a grid that may end ragged."""
    problems = _duplicates(rows, path, DECODE) + _gaps(rows, path, DECODE, 0, 1)
    for row_group in _group(rows, 0).values():
        problems += _too_short(row_group, path, "context_tokens")
    return problems


def check_mixed(rows: Sequence[Row], path: str) -> list[str]:
    """Return the problems of a mixed table: all new tokens of a step by running requests."""
    problems = _duplicates(rows, path, MIXED)
    cells = {(row.key[0] * row.key[1], row.key[3]): row for row in rows}
    chunks = sorted({chunk for chunk, _ in cells})
    runnings = sorted({running for _, running in cells})
    for chunk in chunks:
        for running in runnings:
            if (chunk, running) not in cells:
                problems.append(
                    f"{path}:1: num_running: no row for {chunk} new tokens in all and"
                    f" num_running {running}"
                )
    return problems


def _duplicates(rows: Iterable[Row], path: str, table: TableFormat) -> list[str]:
    seen: dict[tuple[int, ...], int] = {}
    problems: list[str] = []
    for row in rows:
        if row.key in seen:
            names = ",".join(table.columns)
            problems.append(f"{path}:{row.line}: {names}: same as line {seen[row.key]}")
        seen.setdefault(row.key, row.line)
    return problems


def _gaps(rows: Sequence[Row], path: str, table: TableFormat, fixed: int, along: int) -> list[str]:
    """Find cells whose neighbour below, with the same value in column `fixed`, is missing.

    Neighbours are those of the whole grid, so a row may end early but not start late or skip.
    """
    have = {(row.key[fixed], row.key[along]) for row in rows}
    knots = sorted({value for _, value in have})
    below = dict(zip(knots[1:], knots, strict=False))
    name, fixed_name = table.columns[along], table.columns[fixed]
    problems: list[str] = []
    for row in rows:
        value, at = row.key[along], row.key[fixed]
        if value in below and (at, below[value]) not in have:
            problems.append(
                f"{path}:{row.line}: {name}: a gap, there is no row with {name} {below[value]}"
                f" for {fixed_name} {at}"
            )
    return problems


def _too_short(rows: Sequence[Row], path: str, name: str) -> list[str]:
    if len(rows) > 1:
        return []
    return [f"{path}:{rows[0].line}: {name}: needs at least two values to interpolate between"]


def _group(rows: Iterable[Row], column: int) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key[column], []).append(row)
    return groups
