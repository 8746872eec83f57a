"""A child of the benchmark: reads one line of JSON after the other, does it, answers with one.

Runs as `python -m transfer_bench.station`. Ends when its input does, at once: native libraries
take a second for their own ends.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from transfer_bench import plain_ways
from transfer_bench.content import Content
from transfer_bench.crowd_plan import Pull
from transfer_bench.results import Way
from transfer_bench.timing import Timed


class Station:
    """What one child holds between two lines."""

    def __init__(self) -> None:
        self._content: Content | None = None
        self._source: memoryview | None = None
        self._kept: list[Any] = []
        self._native: Any = None
        self._member: Any = None

    @property
    def content(self) -> Content:
        """The weights that all of this is about."""
        if self._content is None:
            raise RuntimeError("describe has to come first")
        return self._content

    @property
    def source(self) -> memoryview:
        """The weights in memory; read when they are first asked for."""
        if self._source is None:
            self._source = plain_ways.held(self.content)
        return self._source

    def describe(self, content: dict[str, Any]) -> None:
        """Say what the weights are."""
        self._content = msgspec.convert(content, Content)

    def memcpy(self) -> Timed:
        """Copy from the weights in memory."""
        return plain_ways.run_memcpy(self.content, self.source)

    def disk(self, how: str, is_cold: bool) -> Timed:
        """Read the file."""
        return plain_ways.run_disk(self.content, how=how, is_cold=is_cold)

    def serve_plain(self) -> int:
        """Offer the weights over plain connections; answers the port."""
        server = plain_ways.SocketSource(self.source)
        self._kept.append(server)
        return server.port

    def sockets(self, port: int, num_connections: int) -> Timed:
        """Pull them."""
        return plain_ways.run_sockets(self.content, port=port, num_connections=num_connections)

    def serve_batch(self) -> dict[str, Any]:
        """Offer every tensor over Mooncake; answers session and addresses."""
        from transfer_bench.engine_way import Tensors

        tensors = Tensors(self.content)
        tensors.fill()
        self._engine().register(tensors.addresses, tensors.sizes)
        self._kept.append(tensors)
        return {"session": self._engine().session, "there": tensors.addresses}

    def batch(self, session: str, there: list[int]) -> Timed:
        """Read them all with one call."""
        from transfer_bench.engine_way import run_batch_read

        return run_batch_read(self._engine(), self.content, session=session, there=there)

    def serve_ours(self) -> str:
        """Offer the weights by every backend of ours that works; answers the URL."""
        from transfer_bench.our_way import serve

        seed = serve(self.content)
        self._kept.append(seed)
        return seed.url

    def ours(self, url: str, way: str) -> Timed:
        """Load them by one of our ways."""
        from transfer_bench.our_way import run_ours

        return run_ours(self.content, url=url, way=Way(way))

    def serve_crowd(self, host: str) -> str:
        """Offer the weights to several receivers, on one address; answers the URL."""
        from transfer_bench.our_way import CROWD_BACKENDS, serve

        seed = serve(self.content, CROWD_BACKENDS, host)
        self._kept.append(seed)
        return seed.url

    def join_crowd(self, **pull: Any) -> Timed:
        """Be one of several receivers."""
        from transfer_bench.our_way import CrowdMember

        if self._member is None:
            self._member = CrowdMember(self.content)
        run: Timed = self._member.join(msgspec.convert(pull, Pull))
        return run

    def check_crowd(self) -> bool:
        """Whether it has what it should have."""
        return self._member is not None and bool(self._member.check())

    def leave_crowd(self) -> None:
        """Give it back."""
        if self._member is not None:
            self._member.leave()

    def _engine(self) -> Any:
        from transfer_bench.engine_way import NativeEngine

        if self._native is None:
            self._native = NativeEngine()
        return self._native


def main() -> None:
    """Serve until the input ends."""
    # Libraries may write to what is standard output: answers go to a descriptor of their own.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    station = Station()
    for line in sys.stdin.buffer:
        answers.write(msgspec.json.encode(_answer(station, msgspec.json.decode(line))) + b"\n")
    os._exit(0)


def _answer(station: Station, asked: dict[str, Any]) -> dict[str, Any]:
    handler: Callable[..., Any] = getattr(station, asked.pop("do"))
    try:
        return {"result": handler(**asked)}
    except Exception as exc:  # The process's root: whoever asked is told, and ends the run.
        return {"error": f"{type(exc).__name__}: {exc}"}


if __name__ == "__main__":
    main()
