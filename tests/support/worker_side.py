"""A connection to a worker with everything around it faked: transport, time and who listens."""

from hfx_router.http1.body_framing import PayloadSink
from hfx_router.http1.response_head import ResponseHead
from hfx_router.outbox import ImmediateOutbox
from hfx_router.upstream.connection import LegFailure, UpstreamConnection
from hfx_router.upstream.pool import ConnectionPool
from support.fake_transport import FakeTransport

from hfx_sgl.clock import FakeClock


class RecordingSink:
    """Notes the calls of one answer, and that they come in the order which is promised."""

    def __init__(self, *, wants_payload: bool = False) -> None:
        self.head: ResponseHead | None = None
        self.wire = bytearray()
        """The body as it came."""
        self.payload = bytearray()
        """The body without its framing."""
        self.outcome: str | None = None
        """`end` or the failure; None while the answer is under way."""
        self._wants_payload = wants_payload

    def on_head(self, head: ResponseHead) -> PayloadSink | None:
        assert self.head is None
        assert self.outcome is None
        self.head = head
        return self.payload.extend if self._wants_payload else None

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        on_payload = self.on_head(head)
        if on_payload is not None:
            on_payload(body)
        self.on_body(body)
        self.on_end()

    def on_body(self, data: bytes) -> None:
        assert self.head is not None
        assert self.outcome is None
        self.wire += data

    def on_end(self) -> None:
        assert self.head is not None
        assert self.outcome is None
        self.outcome = "end"

    def on_lost(self, failure: LegFailure) -> None:
        assert self.outcome is None
        self.outcome = failure


class WorkerSide:
    """A pool for one address; `open` makes a connection in it without a loop."""

    def __init__(self, *, host: str = "10.0.0.1", idle_timeout_s: float = 4.0) -> None:
        self.clock = FakeClock(50.0)
        self.pool = ConnectionPool(
            host,
            30000,
            now_s=self.clock.now_s,
            outbox=ImmediateOutbox(),
            connect_timeout_s=5.0,
            idle_timeout_s=idle_timeout_s,
        )

    def open(self) -> tuple[UpstreamConnection, FakeTransport]:
        connection, transport = UpstreamConnection(self.pool), FakeTransport()
        connection.connection_made(transport)
        return connection, transport

    def open_idle(self) -> tuple[UpstreamConnection, FakeTransport]:
        """Return a connection that has served one request and waits for the next."""
        connection, transport = self.open()
        sink = RecordingSink()
        connection.send(b"", sink)
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert sink.outcome == "end"
        return connection, transport
