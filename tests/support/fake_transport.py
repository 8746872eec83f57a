"""A transport without a socket."""

import asyncio


class FakeTransport(asyncio.Transport):
    """Remembers what was written and asked of it. `connection_lost` is the test's to call."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_reading_now = True
        self.was_closed = False
        """Closed in an orderly way: what was written goes out."""
        self.was_aborted = False
        self.high_water_bytes: int | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def taken(self) -> bytes:
        """Return what was written since the last call."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def close(self) -> None:
        self.was_closed = True

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
