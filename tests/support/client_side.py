"""A client connection with everything around it faked: transport, time and whoever answers."""

from collections.abc import Iterable

from hfx_router.http1.request_reader import ParsedRequest, ReadLimits
from hfx_router.metrics.recorder import Recorder
from hfx_router.outbox import ImmediateOutbox
from hfx_router.server.asgi import AsgiApp
from hfx_router.server.connection import ClientConnection, Handler
from hfx_router.server.front import ClientTimeouts, Front
from support.fake_transport import FakeTransport

from hfx_sgl.clock import FakeClock


class FakeHandler:
    """Answers when the test says so."""

    def __init__(self, connection: ClientConnection, request: ParsedRequest) -> None:
        self.connection = connection
        self.request = request
        self.is_started = False
        self.is_gone = False
        self.is_paused = False

    def start(self) -> None:
        self.is_started = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def client_gone(self) -> None:
        self.is_gone = True

    def answer(self, data: bytes, *, keep_alive: bool = True) -> None:
        self.connection.write(data)
        self.connection.finished(keep_alive=keep_alive)


class ClientSide:
    """One connection at one front. Paths under `/control` go to `app`, all others to `handlers`."""

    def __init__(
        self,
        *,
        limits: ReadLimits | None = None,
        timeouts: ClientTimeouts | None = None,
        app: AsgiApp | None = None,
    ) -> None:
        self.clock = FakeClock(1000.0)
        self.recorder = Recorder()
        self.handlers: list[FakeHandler] = []
        self.front = Front(
            app=app or _no_app,
            make_exchange=self._handler,
            make_request_id=lambda fields, prefix: fields.get(b"x-request-id", prefix.encode()),
            recorder=self.recorder,
            now_s=self.clock.now_s,
            outbox=ImmediateOutbox(),
            limits=limits or ReadLimits(),
            timeouts=timeouts or ClientTimeouts(),
        )
        self.transport = FakeTransport()
        self.connection = ClientConnection(self.front)
        self.connection.connection_made(self.transport)

    def _handler(self, connection: ClientConnection, request: ParsedRequest) -> Handler | None:
        if request.path.startswith(b"/control"):
            return None
        self.handlers.append(FakeHandler(connection, request))
        return self.handlers[-1]

    def send(self, *pieces: bytes) -> None:
        """Deliver bytes from the client."""
        for piece in pieces:
            self.connection.data_received(piece)

    def sweep_after(self, duration_s: float) -> None:
        """Let time pass, then have the front look for slow clients."""
        self.clock.advance(duration_s)
        self.front.sweep()

    @property
    def paths(self) -> list[bytes]:
        """Paths of the requests handed to handlers, in order."""
        return [handler.request.path for handler in self.handlers]


async def _no_app(*_: object) -> None:
    raise AssertionError("nothing here goes to the control plane")


def get(path: str, *lines: str) -> bytes:
    """Bytes of a GET request."""
    return _request(f"GET {path} HTTP/1.1", ("host: x", *lines))


def post(path: str, body: bytes = b"{}", *lines: str) -> bytes:
    """Bytes of a POST request."""
    head = _request(f"POST {path} HTTP/1.1", ("host: x", f"content-length: {len(body)}", *lines))
    return head + body


def _request(request_line: str, lines: Iterable[str]) -> bytes:
    return "\r\n".join((request_line, *lines, "", "")).encode()
