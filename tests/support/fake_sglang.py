"""SGLang's HTTP surface about weights, played: answers are data that a test may change."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MODEL = "tiny"
VERSION = "0.5.23"
TENSORS = {"embed.weight": [4096, 64, 2], "norm.weight": [8192, 8, 2]}


def model_info(**changes: Any) -> dict[str, Any]:
    """Return what `/model_info` says."""
    return {
        "model_path": "/models/tiny",
        "served_model_name": MODEL,
        "weight_version": "default",
        "load_format": "auto",
        "disaggregation_mode": "null",
        "architectures": ["LlamaForCausalLM"],
    } | changes


def server_info(**changes: Any) -> dict[str, Any]:
    """Return what `/server_info` says, as far as anybody looks at it."""
    return {
        "version": VERSION,
        "tp_size": 1,
        "pp_size": 1,
        "ep_size": 1,
        "dtype": "auto",
        "device": "cpu",
        "launch_command": "--model-path /models/tiny --served-model-name tiny --tp-size 1",
    } | changes


def rank_info(session: str = "127.0.0.1:16000", **changes: Any) -> dict[str, Any]:
    """Return where one rank holds its weights."""
    return {"rank": 0, "remote_instance_transfer_engine_info": [session, TENSORS | changes]}


def loads(num_running: int = 0, num_used_tokens: int = 0) -> dict[str, Any]:
    """Return what `/v1/loads` says."""
    load = {
        "num_running_reqs": num_running,
        "num_waiting_reqs": 0,
        "num_used_tokens": num_used_tokens,
    }
    return {"loads": [load]}


def checksums(**tensors: str) -> dict[str, Any]:
    """Return what `/weights_checker` says."""
    place = {"role": "target", "tp_rank": 0, "pp_rank": 0}
    digests = {"embed.weight": "aa", "norm.weight": "bb"} | tensors
    return {"success": True, "ranks": [{"checksums": digests, "parallelism_info": [place]}]}


@dataclass(slots=True)
class FakeSglang:
    """One server. `ranks` is empty when it offers no weights; `workers` makes it a router."""

    url: str
    model_info: dict[str, Any] = field(default_factory=model_info)
    server_info: dict[str, Any] = field(default_factory=server_info)
    ranks: list[dict[str, Any]] = field(default_factory=lambda: [rank_info()])
    loads: dict[str, Any] = field(default_factory=loads)
    checksums: dict[str, Any] = field(default_factory=checksums)
    workers: list[dict[str, Any]] | None = None
    garbled: dict[str, bytes] = field(default_factory=dict)
    """By path: what is answered with 200 in place of JSON."""
    refused: dict[str, int] = field(default_factory=dict)
    """By path: the status in place of an answer."""
    silent: set[str] = field(default_factory=set)
    """Paths that are read and not answered."""
    dripping: set[str] = field(default_factory=set)
    """Paths that are answered one byte at a time, for ever."""
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, bytes]:
        """Return status and body."""
        self.asked.append(path)
        if path in self.refused:
            return self.refused[path], b"{}"
        if path in self.garbled:
            return 200, self.garbled[path]
        body = self._body(path, query)
        return (404, b"{}") if body is None else (200, json.dumps(body).encode())

    def _body(self, path: str, query: dict[str, list[str]]) -> Any:
        match path:
            case "/model_info":
                return self.model_info
            case "/server_info":
                return self.server_info
            case "/v1/loads":
                return self.loads
            case "/weights_checker":
                return self.checksums
            case "/workers":
                return None if self.workers is None else {"workers": self.workers}
            case "/remote_instance_transfer_engine_info":
                rank = int(query["rank"][0])
                return self.ranks[rank] if rank < len(self.ranks) else None
        return None


@contextmanager
def fake_sglang(**state: Any) -> Iterator[FakeSglang]:
    """Serve until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path in fake.silent:
                fake.over.wait()
                return
            if parts.path in fake.dripping:
                self._drip()
                return
            status, body = fake.answer(parts.path, parse_qs(parts.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def _drip(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not fake.over.wait(0.02):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    return

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host, port = server.server_address[:2]
    fake = FakeSglang(url=f"http://{host!s}:{port}", **state)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
