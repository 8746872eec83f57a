"""Writes a run's folder while the run goes on. See `run` for what is in it."""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO

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


class RunWriter:
    """Owns the files of one run. What was run is written last: a folder without it is unfinished.

    Args:
        path: the folder, which must not hold a run; made with its parents.

    Raises:
        ConfigError: the folder holds a run already, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (path / INFO_FILE).exists() or (path / RECORDS_FILE).exists():
            raise ConfigError(f"output: {path} holds a run already")
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._records = (path / RECORDS_FILE).open("wb", buffering=1 << 20)
        except OSError as exc:
            raise ConfigError(f"output: {path}: {exc.strerror}") from exc
        self._workers: BinaryIO | None = None
        self._encoder = msgspec.json.Encoder()
        self._line = bytearray()
        self._next_position = 0
        self._held: dict[int, RequestRecord] = {}

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def add_record(self, position: int, record: RequestRecord) -> None:
        """Write the outcome of the request that arrived as number `position`, counted from 0.

        Outcomes may come in any order; one is held back until all earlier arrivals have theirs.
        """
        self._held[position] = record
        while (following := self._held.pop(self._next_position, None)) is not None:
            self._write_record(following)
            self._next_position += 1

    def add_worker_sample(self, sample: WorkerSample) -> None:
        """Write how a worker was doing; samples come in order of time."""
        if self._workers is None:
            self._workers = (self.path / WORKERS_FILE).open("wb", buffering=1 << 20)
        self._encoder.encode_into(sample, self._line)
        self._line += b"\n"
        self._workers.write(self._line)

    def finish(self, info: RunInfo, summary: Summary) -> None:
        """Write what was run and what it adds up to; nothing can be added afterwards."""
        self.close()
        _write_json(self.path / SUMMARY_FILE, summary)
        _write_json(self.path / INFO_FILE, info)

    def close(self) -> None:
        """Close the files. Outcomes that still wait for an earlier one are written."""
        if self._records.closed:
            return
        for position in sorted(self._held):
            self._write_record(self._held[position])
        self._held.clear()
        self._records.close()
        if self._workers is not None:
            self._workers.close()

    def _write_record(self, record: RequestRecord) -> None:
        self._encoder.encode_into(record, self._line)
        self._line += b"\n"
        self._records.write(self._line)


def _write_json(path: Path, value: RunInfo | Summary) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
