"""Finds the reader of a trace, and reads it; problems come out as one ConfigError."""

import csv
from collections.abc import Iterator
from pathlib import Path

import orjson

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.traces import azure, burstgpt, mooncake
from hfx_sgl.workload.traces.aiperf import read_aiperf
from hfx_sgl.workload.traces.formats import Reader, ReadOptions, TraceFormat, TraceRow
from hfx_sgl.yaml_file import MAX_PROBLEMS, first_problems

_READERS: dict[TraceFormat, Reader] = {
    TraceFormat.AZURE: azure.read_azure,
    TraceFormat.BURSTGPT: burstgpt.read_burstgpt,
    TraceFormat.MOONCAKE: mooncake.read_mooncake,
    TraceFormat.AIPERF: read_aiperf,
}
_READ_AHEAD = 50 * MAX_PROBLEMS
"""A file with so many problems is not read to its end."""


def detect_format(path: Path) -> TraceFormat:
    """Return the format that the first line that is not blank suggests.

    Raises:
        ConfigError: the file cannot be read, is empty, or looks like none of the formats.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {_reason(exc)}") from exc
    if not first:
        raise ConfigError(f"{path}: is empty")
    if first.lstrip().startswith("{"):
        return _json_format(first)
    columns = {name.strip() for name in next(csv.reader([first]))}
    for name, known in (
        (TraceFormat.AZURE, azure.COLUMNS),
        (TraceFormat.BURSTGPT, burstgpt.COLUMNS),
    ):
        if columns.intersection(known):
            return name
    names = ", ".join(name for name in TraceFormat if name is not TraceFormat.AUTO)
    raise ConfigError(f"{path}:1: looks like none of {names}; unknown columns: {first.strip()}")


def read_trace(path: Path, form: TraceFormat, options: ReadOptions) -> Iterator[TraceRow]:
    """Yield the rows of a trace in order of time.

    Raises:
        ConfigError: after the last row, with all problems that were met, or as soon as the file
            turns out to be unreadable.
    """
    if form is TraceFormat.AUTO:
        form = detect_format(path)
    problems: list[str] = []

    def report(line: int, field: str, message: str) -> None:
        place = f"{path}:{line}: {field}: " if field else f"{path}:{line}: "
        problems.append(f"{place}{message}")

    num_rows = 0
    try:
        for row in _READERS[form](path, report, options):
            num_rows += 1
            if len(problems) > _READ_AHEAD:
                break
            yield row
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {_reason(exc)}") from exc
    if problems:
        raise ConfigError(*first_problems(problems))
    if not num_rows:
        raise ConfigError(f"{path}: has no requests")


def _json_format(first: str) -> TraceFormat:
    try:
        row = orjson.loads(first)
    except orjson.JSONDecodeError:
        return TraceFormat.AIPERF  # whose reader says what is wrong with the line
    is_mooncake = isinstance(row, dict) and set(row) == set(mooncake.FIELDS)
    return TraceFormat.MOONCAKE if is_mooncake else TraceFormat.AIPERF


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    if isinstance(exc, OSError):
        return f"cannot be read: {exc.strerror}"
    return "is not UTF-8 text"
