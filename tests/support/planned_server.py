"""A server whose answers are planned: a function serves each class of request (`x-slo-class`).

It notes on the monotonic clock when each request had come and when each piece was written.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nx-hfx-worker: w0\r\n\r\n"
)
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
LOADS = {
    "loads": [
        {
            "worker": "http://w0",
            "worker_type": "regular",
            "num_running_reqs": 2,
            "num_waiting_reqs": 1,
            "token_usage": 0.5,
        }
    ]
}


def text_event(text: str = "tok ") -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


def usage_event(num_tokens: int) -> bytes:
    usage = {
        "prompt_tokens": 21,
        "completion_tokens": num_tokens,
        "prompt_tokens_details": {"cached_tokens": 16},
    }
    return b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode()


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


@dataclass(slots=True)
class Served:
    """One request and what became of it."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    received_at_s: float = field(default_factory=time.monotonic)
    text_written_at_s: list[float] = field(default_factory=list)

    @property
    def fields(self) -> dict[str, object]:
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content

    async def put(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def put_text(self, text: str = "tok ") -> None:
        self.text_written_at_s.append(time.monotonic())
        await self.put(chunk(text_event(text)))

    async def put_plain(self, status: str, body: bytes, extra: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\n{extra}content-length: {len(body)}\r\n\r\n"
        await self.put(head.encode() + body)


Serve = Callable[[Served], Awaitable[None]]


async def serve_whole(served: Served, *, delay_s: float = 0.0, gap_s: float = 0.0) -> None:
    """Stream as many tokens as the request plans, the first after `delay_s`."""
    num_tokens = served.fields["emulated_output_tokens"]
    assert isinstance(num_tokens, int)
    await served.put(HEAD + chunk(ROLE))
    await asyncio.sleep(delay_s)
    await served.put_text()
    for _ in range(num_tokens - 1):
        await asyncio.sleep(gap_s)
        await served.put_text()
    await served.put(chunk(FINISH) + chunk(usage_event(num_tokens)) + chunk(DONE) + b"0\r\n\r\n")


class PlannedServer:
    """Listens on a port of loopback. Classes without a plan get whole answers at once."""

    def __init__(self, plans: dict[str, Serve]) -> None:
        self.plans = plans
        self.served: list[Served] = []
        self.num_connections = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.ensure_future(self._serve_connection(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while not writer.is_closing():
                served = await _read_request(reader, writer)
                await self._serve(served)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, served: Served) -> None:
        if served.path.endswith("/v1/loads"):
            await served.put_plain("200 OK", json.dumps(LOADS).encode())
            return
        if served.path.endswith("/v1/models"):
            await served.put_plain("200 OK", b'{"data":[{"id":"planned-model"}]}')
            return
        self.served.append(served)
        plan = self.plans.get(served.headers.get("x-slo-class", ""), serve_whole)
        await plan(served)


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Served:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Served(path=first.split()[1], headers=headers, body=body, writer=writer)
