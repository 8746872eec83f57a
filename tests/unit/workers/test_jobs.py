import pytest
from hfx_router.workers.jobs import JobBoard, JobState, JobType


def put(board: JobBoard, worker_id: str, state: JobState, message: str | None = None) -> None:
    board.put(worker_id, JobType.ADD, f"http://{worker_id}", state, message)


def test_latest_status_counts() -> None:
    times = iter((10.0, 11.0))
    board = JobBoard(lambda: next(times))
    put(board, "a", JobState.PENDING)
    put(board, "a", JobState.FAILED, "no answer")
    job = board.get("a")
    assert job is not None
    assert (job.state, job.message, job.worker_url, job.at_unix_s) == (
        JobState.FAILED, "no answer", "http://a", 11.0,
    )  # fmt: skip
    assert board.get("b") is None


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.COMPLETED])
def test_finished_jobs_are_bounded_and_running_ones_kept(state: JobState) -> None:
    board = JobBoard(lambda: 0.0, max_finished=2)
    put(board, "running", JobState.PROCESSING)
    for name in ("a", "b", "c"):
        put(board, name, state)
    assert [worker_id for worker_id, _ in board.items()] == ["running", "b", "c"]


def test_a_job_that_starts_again_is_not_finished() -> None:
    board = JobBoard(lambda: 0.0, max_finished=1)
    put(board, "a", JobState.FAILED)
    put(board, "a", JobState.PROCESSING)
    put(board, "b", JobState.FAILED)
    assert [worker_id for worker_id, _ in board.items()] == ["a", "b"]


def test_forgotten_job_is_gone() -> None:
    board = JobBoard(lambda: 0.0)
    put(board, "a", JobState.FAILED)
    board.forget("a")
    board.forget("a")
    assert board.items() == []
