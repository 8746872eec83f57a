"""Stand-ins for tests and examples, with the shapes of `view`."""

from dataclasses import dataclass
from typing import NamedTuple


class FakeRequest(NamedTuple):
    """A request with the prompt and key that a test wants."""

    prompt: bytes = b""
    routing_key: str | None = None


@dataclass(slots=True)
class FakeWorker:
    """A worker whose load is whatever was last set."""

    worker_id: str
    num_inflight: int = 0


def make_workers(*loads: int) -> list[FakeWorker]:
    """Return one worker per load, called w0, w1, ..."""
    return [FakeWorker(f"w{index}", load) for index, load in enumerate(loads)]
