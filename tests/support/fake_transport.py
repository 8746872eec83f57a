"""A transport without a socket."""

import asyncio
from typing import Any


class FakeSocket:
    """Remembers the options that were set."""

    def __init__(self) -> None:
        self.options: dict[tuple[int, int], int | bytes] = {}

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.options[level, option] = value


class FakeTransport(asyncio.Transport):
    """Remembers what was written and asked of it. `connection_lost` is the test's to call."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_reading_now = True
        self.has_ended = False
        """Ended in an orderly way: what was written goes out, and nothing else."""
        self.was_closed = False
        self.was_aborted = False
        self.high_water_bytes: int | None = None
        self.socket = FakeSocket()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket if name == "socket" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended, "asyncio's transports raise here"
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def can_write_eof(self) -> bool:
        return True

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        self.was_closed = self.has_ended = True

    def abort(self) -> None:
        self.was_aborted = True

    def is_closing(self) -> bool:
        return self.was_closed or self.was_aborted

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_water_bytes = high
