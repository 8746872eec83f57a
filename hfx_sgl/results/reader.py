"""Reads a run's folder. Strict: what it does not know, it refuses, naming file, line and field."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from hfx_sgl.errors import ConfigError
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.run import (
    INFO_FILE,
    RECORDS_FILE,
    SUMMARY_FILE,
    WORKERS_FILE,
    RunInfo,
    WorkerSample,
)
from hfx_sgl.results.summary import Summary

T = TypeVar("T")

_PLACED = re.compile(r"^(?P<what>.*) - at `\$\.(?P<where>.*)`$", re.DOTALL)
_NAMED = re.compile(r"field `(?P<name>[^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run. Its head is in memory; records and samples are read each time anew."""

    path: Path
    info: RunInfo
    summary: Summary

    def records(self) -> Iterator[RequestRecord]:
        """Yield the outcome of each request in order of arrival; errors as of `read_run`."""
        return read_records(self.path)

    def workers(self) -> Iterator[WorkerSample]:
        """Yield the samples in order of time; none when workers were not sampled."""
        path = self.path / WORKERS_FILE
        return _read_lines(path, WorkerSample) if path.exists() else iter(())


def read_run(path: Path) -> Run:
    """Return the run in the folder `path`.

    Raises:
        ConfigError: a file is missing or holds something else than it should; one problem, as
            `file:line: field: message`.
    """
    if not (path / INFO_FILE).is_file():
        raise ConfigError(f"{path / INFO_FILE}: missing; this folder holds no finished run")
    return Run(
        path=path,
        info=_read_json(path / INFO_FILE, RunInfo),
        summary=_read_json(path / SUMMARY_FILE, Summary),
    )


def read_records(path: Path) -> Iterator[RequestRecord]:
    """Yield the records in the folder `path` one by one, also of a run that is not finished."""
    return _read_lines(path / RECORDS_FILE, RequestRecord)


def _read_lines(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _decoded(decoder, line, f"{path}:{number}")
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc


def _read_json(path: Path, kind: type[T]) -> T:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    return _decoded(msgspec.json.Decoder(kind), content, f"{path}:1")


def _decoded(decoder: msgspec.json.Decoder[T], content: bytes, place: str) -> T:
    try:
        return decoder.decode(content)
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{place}: {_with_field(str(exc))}") from exc


def _with_field(message: str) -> str:
    """Put the field that msgspec names at the end or inside of a message in front of it."""
    if placed := _PLACED.match(message):
        return f"{placed['where']}: {placed['what']}"
    if named := _NAMED.search(message):
        return f"{named['name']}: {message}"
    return message
