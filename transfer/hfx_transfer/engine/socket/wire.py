"""Moves bytes through a connected socket, and notices within a limit that they have stopped.

The socket blocks in the kernel, which copies to and from the slab without the GIL, and comes back
every fraction of a second for a look at the clock.
"""

import contextlib
import math
import select
import socket
import struct
import threading
from collections.abc import Iterator

from hfx_sgl.clock import Clock

_LOOKS_PER_TIMEOUT = 10
"""A stall is noticed at most two tenths of the limit late: one look counts the last bytes as
fresh, the next one finds none."""

_LONGEST_LOOK_S = 0.5

_WAKE_BYTES = 1 << 20
_PART_BYTES = 4 << 20
"""A part is what came since the last one, from the first to the second: fewer wake-ups than one
for each packet, and not more than a processor's cache holds."""

_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""An idle connection to a host that vanished is found dead after a minute."""


class StalledError(Exception):
    """No byte moved for as long as the limit."""


class EndedError(Exception):
    """The other side closed the connection."""


class Wire:
    """One connection. Belongs to one thread; others may only `shut` it.

    Args:
        connected: the socket; closed by `close` alone, for a descriptor that is closed under a
            running call may be given to something else meanwhile.
        clock: tells how long nothing has moved.
        progress_timeout_s: for how long nothing may move.
    """

    def __init__(self, connected: socket.socket, clock: Clock, progress_timeout_s: float) -> None:
        self._socket = connected
        self._clock = clock
        self._progress_timeout_s = progress_timeout_s
        self._closing = threading.Lock()
        look_s = min(progress_timeout_s / _LOOKS_PER_TIMEOUT, _LONGEST_LOOK_S)
        _let_calls_return_after(connected, look_s)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def wait_for_bytes(self) -> None:
        """Wait, for ever, until there is something to receive or the connection has ended."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.poll()

    def receive_into(self, target: memoryview, *, within_s: float = math.inf) -> None:
        """Fill `target`. No thread writes to it once this has returned or raised.

        Args:
            target: at least one byte.
            within_s: limit for the whole of it, beside the one for progress.

        Raises:
            StalledError: a limit passed.
            EndedError: the other side closed, or the connection broke.
        """
        start_s = moved_at_s = self._clock.now_s()
        while target.nbytes:
            num_bytes = self._receive(target, socket.MSG_WAITALL)
            moved_at_s = self._look(num_bytes, moved_at_s, start_s + within_s)
            target = target[num_bytes or 0 :]

    def receive_parts(self, target: memoryview) -> Iterator[memoryview]:
        """Fill `target`; yield each part of it, in order, when it has just come.

        Raises what `receive_into` does.
        """
        moved_at_s = self._clock.now_s()
        # A call that has copied some bytes sleeps until so many more are there, so that the end
        # would be missed with less than twice as many to come.
        self._wake_for(_WAKE_BYTES if target.nbytes >= 2 * _WAKE_BYTES else 1)
        try:
            while target.nbytes:
                num_bytes = self._receive(target[:_PART_BYTES], 0)
                moved_at_s = self._look(num_bytes, moved_at_s, math.inf)
                if num_bytes:
                    yield target[:num_bytes]
                    target = target[num_bytes:]
                    if target.nbytes < 2 * _WAKE_BYTES:
                        self._wake_for(1)
        finally:
            self._wake_for(1)

    def receive(self, num_bytes: int, *, within_s: float = math.inf) -> bytearray:
        """Return that many bytes; see `receive_into`."""
        frame = bytearray(num_bytes)
        self.receive_into(memoryview(frame), within_s=within_s)
        return frame

    def send(self, source: memoryview | bytes) -> None:
        """Give all of `source` to the kernel.

        Raises:
            StalledError: it took none for the progress timeout.
            EndedError: the connection broke.
        """
        rest = memoryview(source)
        moved_at_s = self._clock.now_s()
        while rest.nbytes:
            try:
                num_bytes = self._socket.send(rest)
            except BlockingIOError:
                num_bytes = None
            except OSError as error:
                raise EndedError(str(error)) from error
            moved_at_s = self._look(num_bytes, moved_at_s, math.inf)
            rest = rest[num_bytes or 0 :]

    def shut(self) -> None:
        """End the connection; the thread that uses it finds it ended."""
        with self._closing, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; what the kernel has taken is still sent."""
        with self._closing:
            self._socket.close()

    def abort(self) -> None:
        """Give the socket back; what the kernel has not sent is dropped, the other side told."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _receive(self, target: memoryview, flags: int) -> int | None:
        """Return how many bytes came, None when it was time for a look at the clock."""
        try:
            num_bytes = self._socket.recv_into(target, 0, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EndedError(str(error)) from error
        if num_bytes == 0:
            raise EndedError("the connection was closed")
        return num_bytes

    def _wake_for(self, num_bytes: int) -> None:
        with contextlib.suppress(OSError):  # It has ended, as the next call finds.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, num_bytes)

    def _look(self, num_bytes: int | None, moved_at_s: float, end_s: float) -> float:
        now_s = self._clock.now_s()
        if now_s >= end_s:
            raise StalledError("the time was up")
        if num_bytes is not None:
            return now_s
        if now_s - moved_at_s >= self._progress_timeout_s:
            raise StalledError(f"no byte moved for {now_s - moved_at_s:.1f} s")
        return moved_at_s


def _let_calls_return_after(connected: socket.socket, look_s: float) -> None:
    # Python's own timeout would make the socket non-blocking: a poll and a short copy for each
    # buffer's worth, instead of one call that copies all there is to come.
    connected.settimeout(None)
    microseconds = max(1, int(look_s * 1e6))
    timeval = struct.pack("@ll", *divmod(microseconds, 1_000_000))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
