"""Where a simulation puts what happened. A run folder's writer is one such place."""

from typing import Protocol

from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.run import WorkerSample


class Sink(Protocol):
    """Takes outcomes in the order in which they become known, and samples in order of time."""

    def add_record(self, position: int, record: RequestRecord) -> None:
        """Take the outcome of the request that arrived as number `position`, counted from 0."""
        ...

    def add_worker_sample(self, sample: WorkerSample) -> None:
        """Take how a worker was doing."""
        ...


class MemorySink:
    """Keeps everything."""

    def __init__(self) -> None:
        self._records: dict[int, RequestRecord] = {}
        self.samples: list[WorkerSample] = []

    def add_record(self, position: int, record: RequestRecord) -> None:
        """See Sink."""
        self._records[position] = record

    def add_worker_sample(self, sample: WorkerSample) -> None:
        """See Sink."""
        self.samples.append(sample)

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """The outcomes in order of arrival."""
        return tuple(self._records[position] for position in sorted(self._records))
