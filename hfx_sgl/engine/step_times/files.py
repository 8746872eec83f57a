"""Reads the measured tables of a profile folder."""

from dataclasses import replace
from pathlib import Path

from hfx_sgl.engine.step_times.grid import check_decode, check_mixed, check_prefill
from hfx_sgl.engine.step_times.measured import MeasuredStepTimes
from hfx_sgl.engine.step_times.rows import DECODE, MIXED, PREFILL, Row, TableFormat, read_rows
from hfx_sgl.errors import ConfigError
from hfx_sgl.yaml_file import first_problems


def read_step_times(folder: Path, time_scale: float = 1.0) -> MeasuredStepTimes:
    """Return the step times of a folder, each multiplied by `time_scale`.

    Raises:
        ConfigError: a file is missing or bad; one `file:line: field: message` for each problem.
    """
    problems: list[str] = []
    prefill = _read(folder, PREFILL, problems)
    decode = _read(folder, DECODE, problems)
    mixed = _read(folder, MIXED, problems) if (folder / MIXED.file_name).exists() else ()
    if not problems:
        problems += check_prefill(prefill, str(folder / PREFILL.file_name))
        problems += check_decode(decode, str(folder / DECODE.file_name))
        problems += check_mixed(mixed, str(folder / MIXED.file_name))
    if problems:
        raise ConfigError(*first_problems(problems))
    return MeasuredStepTimes(*(_scaled(rows, time_scale) for rows in (prefill, decode, mixed)))


def _read(folder: Path, table: TableFormat, problems: list[str]) -> tuple[Row, ...]:
    path = folder / table.file_name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        problems.append(f"{path}: cannot be read: {exc.strerror}")
        return ()
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8 text")
        return ()
    return read_rows(text, str(path), table, problems)


def _scaled(rows: tuple[Row, ...], time_scale: float) -> tuple[Row, ...]:
    return tuple(replace(row, latency_ms=row.latency_ms * time_scale) for row in rows)
