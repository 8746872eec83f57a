"""The second half of scripts/demo: starts the cluster, asks it, judges the answers."""

import http.client
import io
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch import netns, prepare
from hfx_sgl.launch.cluster import Cluster, interrupt_on_termination
from hfx_sgl.launch.plan import plan_cluster
from hfx_sgl.launch.spec import ClusterSpec

ROOT = Path(__file__).resolve().parents[2]
REQUEST_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 10.0
NUM_TOKENS = 24
GREETING = [{"role": "user", "content": "hello world, how are you today?"}]

Json = dict[str, Any]


class Answer(NamedTuple):
    """One answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: Json


class Row(NamedTuple):
    """One line of the closing table."""

    request: str
    status: int
    num_tokens: int
    total_ms: float
    workers: str


class Checks:
    """What has been looked at, and whether it was right."""

    def __init__(self) -> None:
        self.num_wrong = 0

    def expect(self, is_right: bool, what: str) -> None:
        print(f"  {'ok   ' if is_right else 'WRONG'} {what}")
        self.num_wrong += not is_right


class Client:
    """Talks to one HTTP server, one connection for each request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port)

    def get(self, path: str) -> Json:
        return self._answer("GET", path, None).body

    def post(self, path: str, body: Json) -> Answer:
        return self._answer("POST", path, body)

    def stream(self, path: str, body: Json) -> tuple[dict[str, str], Iterator[str]]:
        """Return the headers, and the payload of each event as it comes."""
        connection = self._send("POST", path, body)
        response = connection.getresponse()
        return _lowered(response), self._events(connection, response)

    def _events(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> Iterator[str]:
        try:
            while line := response.readline():
                if line.startswith(b"data:"):
                    yield line[5:].strip().decode()
        finally:
            connection.close()

    def _answer(self, method: str, path: str, body: Json | None) -> Answer:
        connection = self._send(method, path, body)
        try:
            response = connection.getresponse()
            return Answer(response.status, _lowered(response), json.loads(response.read()))
        finally:
            connection.close()

    def _send(self, method: str, path: str, body: Json | None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(*self._address, timeout=REQUEST_TIMEOUT_S)
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"content-type": "application/json"})
        return connection


def main() -> int:
    # Progress goes to stderr: the two must interleave also when neither is a terminal.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    prepare.ensure_tiny_model(ROOT, prepare.sglang_venv_python(ROOT))
    if netns.can_isolate():
        netns.isolate()
    else:
        print("without the right to make a network namespace (root has it), Mooncake listens on")
        print("all of this machine's network interfaces while the demo runs")
    spec = ClusterSpec(
        model_path=prepare.tiny_model_path(ROOT),
        served_model_name=prepare.TINY_MODEL_NAME,
        sglang_python=prepare.sglang_venv_python(ROOT),
        router_python=sys.executable,
        router_args=("--response-worker-headers",),
        log_dir=str(ROOT / ".hfx" / "logs"),
    )
    checks = Checks()
    interrupt_on_termination()
    try:
        with Cluster(plan_cluster(spec)) as cluster:
            _show(cluster, checks)
    except LaunchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been stopped", file=sys.stderr)
        return 1
    if checks.num_wrong:
        print(f"\n{checks.num_wrong} checks failed, logs are in {spec.log_dir}")
        return 1
    print(f"""
Everything was right, and all of it has been stopped. Next:
  scripts/launch_pd_cluster --prefill 2 --decode 2    a cluster to play with
  scripts/launch_pd_cluster --help                    your own model, CUDA, Ascend NPU
  {sys.executable} -m hfx_router.launch_router --help
  docs/architecture.md                                how it works""")
    return 0


def _show(cluster: Cluster, checks: Checks) -> None:
    urls = cluster.urls
    print("\nThe model's weights are random: its words mean nothing.")
    router = Client(urls["router"])
    rows = list(_show_generate(router, checks))
    text, row = _show_chat(router, checks)
    rows += [row, _show_stream(router, checks, expected=text)]
    _show_idle(urls, checks)
    pair = " -> ".join(urls[name].removeprefix("http://") for name in ("prefill-0", "decode-0"))
    checks.expect(all(row.workers == pair for row in rows), f"all were served by {pair}")
    dead = [instance.plan.name for instance in cluster.poll()]
    checks.expect(not dead, "every process lived to the end")
    print(f"\n{'request':24}{'status':>7}{'tokens':>8}{'total':>11}   prefill -> decode")
    for row in rows:
        print(
            f"{row.request:24}{row.status:>7}{row.num_tokens:>8}{row.total_ms:>8.1f} ms"
            f"   {row.workers}"
        )


def _show_generate(router: Client, checks: Checks) -> Iterator[Row]:
    print("\nPOST /generate, twice, greedy")
    body = {
        "text": "the quick brown fox",
        "sampling_params": {"temperature": 0, "max_new_tokens": NUM_TOKENS, "ignore_eos": True},
    }
    texts = []
    for _ in range(2):
        started_at_s = time.perf_counter()
        answer = router.post("/generate", body)
        total_ms = (time.perf_counter() - started_at_s) * 1e3
        num_tokens = answer.body.get("meta_info", {}).get("completion_tokens", 0)
        texts.append(answer.body.get("text"))
        yield Row("/generate", answer.status, num_tokens, total_ms, _workers(answer.headers))
        checks.expect(answer.status == 200, f"status {answer.status}")
    print(f"  {texts[0]!r}")
    checks.expect(texts[0] == texts[1] and bool(texts[0]), "both answers are the same text")


def _show_chat(router: Client, checks: Checks) -> tuple[str, Row]:
    print("\nPOST /v1/chat/completions")
    started_at_s = time.perf_counter()
    answer = router.post("/v1/chat/completions", _chat_body(stream=False))
    total_ms = (time.perf_counter() - started_at_s) * 1e3
    checks.expect(answer.status == 200, f"status {answer.status}")
    num_tokens = (answer.body.get("usage") or {}).get("completion_tokens", 0)
    text = "".join(choice["message"]["content"] for choice in answer.body.get("choices", ()))
    print(f"  {text!r}")
    checks.expect(num_tokens == NUM_TOKENS, f"{num_tokens} tokens, as asked for")
    return text, Row("chat", answer.status, num_tokens, total_ms, _workers(answer.headers))


def _show_stream(router: Client, checks: Checks, *, expected: str) -> Row:
    print("\nPOST /v1/chat/completions, streamed\n  ", end="")
    started_at_s = time.perf_counter()
    token_at_s: list[float] = []
    streamed = ""
    is_done = False
    headers, events = router.stream("/v1/chat/completions", _chat_body(stream=True))
    for payload in events:
        if payload == "[DONE]":
            is_done = True
            continue
        for choice in json.loads(payload).get("choices", ()):
            text = choice["delta"].get("content")
            if text:
                token_at_s.append(time.perf_counter())
                streamed += text
                print(json.dumps(text, ensure_ascii=False)[1:-1], end="|", flush=True)
    total_ms = (time.perf_counter() - started_at_s) * 1e3
    print()
    checks.expect(is_done, "the stream ended with [DONE]")
    checks.expect(
        streamed == expected, f"{len(token_at_s)} pieces of text, together the answer above"
    )
    if len(token_at_s) > 1:
        ttft_ms = (token_at_s[0] - started_at_s) * 1e3
        tpot_ms = (token_at_s[-1] - token_at_s[0]) * 1e3 / (NUM_TOKENS - 1)
        print(f"  first token after {ttft_ms:.1f} ms, {tpot_ms:.1f} ms for each further token")
    return Row("chat, streamed", 200, NUM_TOKENS, total_ms, _workers(headers))


def _show_idle(urls: dict[str, str], checks: Checks) -> None:
    print("\nWhat the servers report afterwards (GET /v1/loads)")
    for name, url in urls.items():
        if name == "router":
            continue
        give_up_at_s = time.perf_counter() + DRAIN_TIMEOUT_S
        while (busy := _busy(Client(url))) and time.perf_counter() < give_up_at_s:
            time.sleep(0.1)
        checks.expect(not busy, f"{name}: {busy or 'nothing running, queued or held'}")


def _busy(server: Client) -> Json:
    """Return the counters that are not zero on a server that should be idle."""
    busy: Json = {}
    for load in server.get("/v1/loads?include=core,disagg,queues")["loads"]:
        requests = {**load, **(load.get("disaggregation") or {})}
        counters = {name: value for name, value in requests.items() if name.endswith("_reqs")}
        counters |= load.get("queues") or {}
        busy |= {name: value for name, value in counters.items() if value}
    return busy


def _chat_body(*, stream: bool) -> Json:
    return {
        "model": prepare.TINY_MODEL_NAME,
        "messages": GREETING,
        "max_tokens": NUM_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": stream,
    }


def _workers(headers: dict[str, str]) -> str:
    names = (headers.get(f"x-hfx-{role}-worker", "?") for role in ("prefill", "decode"))
    return " -> ".join(name.removeprefix("http://") for name in names)


def _lowered(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


if __name__ == "__main__":
    sys.exit(main())
