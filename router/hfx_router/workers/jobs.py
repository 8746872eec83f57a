"""What became of the registrations and removals. Bounded: old finished ones are forgotten."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class JobType(StrEnum):
    """The values are those of the wire contract."""

    ADD = "AddWorker"
    REMOVE = "RemoveWorker"


class JobState(StrEnum):
    """The values are those of the wire contract."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """One job as `GET /workers/{id}` shows it."""

    job_type: JobType
    worker_url: str
    state: JobState
    message: str | None
    """While it waits or has failed: why. None when there is nothing to say."""
    at_unix_s: float


class JobBoard:
    """The latest job of each worker id, oldest first.

    Finished ones beyond `max_finished` are forgotten, oldest first. The default is what a
    fleet's worth of typing mistakes needs; it only bounds memory.
    """

    def __init__(self, unix_time_s: Callable[[], float], max_finished: int = 256) -> None:
        self._unix_time_s = unix_time_s
        self._max_finished = max_finished
        self._statuses: dict[str, JobStatus] = {}
        self._finished: dict[str, None] = {}  # an ordered set

    def put(
        self,
        worker_id: str,
        job_type: JobType,
        worker_url: str,
        state: JobState,
        message: str | None = None,
    ) -> None:
        """Record the state that a worker's job has reached."""
        self._statuses[worker_id] = JobStatus(
            job_type=job_type,
            worker_url=worker_url,
            state=state,
            message=message,
            at_unix_s=self._unix_time_s(),
        )
        self._finished.pop(worker_id, None)
        if state in (JobState.COMPLETED, JobState.FAILED):
            self._finished[worker_id] = None
            while len(self._finished) > self._max_finished:
                self.forget(next(iter(self._finished)))

    def get(self, worker_id: str) -> JobStatus | None:
        """Return the latest status of a worker's job; None when there is none (any more)."""
        return self._statuses.get(worker_id)

    def forget(self, worker_id: str) -> None:
        """Drop a worker's job."""
        self._statuses.pop(worker_id, None)
        self._finished.pop(worker_id, None)

    def items(self) -> list[tuple[str, JobStatus]]:
        """Return every (worker id, status)."""
        return list(self._statuses.items())
