"""A server that streams with planned delays and stamps the truth.

Run as a process of its own: `python -m bench.truth_server PORT SEED`. On SIGTERM it prints one JSON
line per request: its id, and the monotonic instants at which it had come and at which its first and
last token were written.
"""

import asyncio
import json
import random
import signal
import sys
import time

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
FIRST_S = (0.02, 0.4)
GAP_S = (0.004, 0.03)


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


TOKEN = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"tok "}}]}\n\n')
FINISH = chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}\n\n')
END = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class TruthServer:
    """Draws the delays of a request from its id, so that they do not depend on the order."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.stamps: list[dict[str, object]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                await self._answer(headers["x-request-id"], body["max_tokens"], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.transport.abort()

    async def _answer(self, name: str, num_tokens: int, writer: asyncio.StreamWriter) -> None:
        received_at_s = time.monotonic()
        rng = random.Random(f"{self._seed}/{name}")
        writer.write(HEAD)
        await asyncio.sleep(rng.uniform(*FIRST_S))
        gap_s = rng.uniform(*GAP_S)
        first_at_s = last_at_s = time.monotonic()
        writer.write(TOKEN)
        for _ in range(num_tokens - 1):
            await asyncio.sleep(gap_s)
            last_at_s = time.monotonic()
            writer.write(TOKEN)
        writer.write(FINISH + END)
        self.stamps.append(
            {
                "name": name,
                "ttft_s": first_at_s - received_at_s,
                "tpot_s": (last_at_s - first_at_s) / (num_tokens - 1) if num_tokens > 1 else None,
                "e2e_latency_s": last_at_s - received_at_s,
            }
        )


async def run(port: int, seed: int) -> None:
    truth = TruthServer(seed)
    server = await asyncio.start_server(truth.serve, "127.0.0.1", port, backlog=1024)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    server.close()
    for stamp in truth.stamps:
        print(json.dumps(stamp))


if __name__ == "__main__":
    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2])))
