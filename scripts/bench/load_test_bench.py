"""The command line of `scripts/bench_load_test`: cost per token, and whether figures are true."""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
from bench.machine import commit_of, describe_machine
from bench.processes import PinnedProcess
from bench.results import Machine
from bench.stream_clients import OWN, PLAIN, ClientReport
from bench.toolchain import BenchError, compile_tool

from hfx_sgl.results.latency import latency_stats

ROOT = Path(__file__).parents[2]
SCHEMA = "hfx.bench_load_test/1"
TARGET_US = 60.0
INTERVAL_US = 10_000
DESCRIPTION = """\
Measures the client of hfx-loadtest, in two parts.

Cost: CPU time per received token against a mock worker in C, beside a plain aiohttp client that
parses the JSON of every event, alternating, for several rounds.
Truth: percentiles that the client reports against those of a server that plans its delays and
stamps what it wrote and when.

Clients run on one core, servers on another. Exits with 1 when the cost is over the target, when a
figure is further from the truth than --tolerance-ms, or when a request failed.
"""


class BenchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of this benchmark."""

    schema: str
    at: str
    machine: Machine
    commit: str | None
    has_changes: bool | None
    rate_per_s: float
    num_requests: int
    tokens_per_request: int
    costs: list[ClientReport]
    truth: ClientReport
    true_latencies_ms: dict[str, float]


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except BenchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_load_test",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="runs of each client (default %(default)s)")
    add("--rate", type=float, default=50.0, help="requests per second (default %(default)s)")
    add("--num-requests", type=int, default=250, help="per run (default %(default)s)")
    add("--tokens", type=int, default=100, help="per request (default %(default)s)")
    add("--tolerance-ms", type=float, default=5.0, help="of percentiles (default %(default)s)")
    add("--output-file", type=Path, help="append the record to this file, as one JSON line")
    default_cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hfx-bench"
    add(
        "--cache-dir", type=Path, default=default_cache,
        help="where the compiled mock worker is kept (default %(default)s)",
    )  # fmt: skip
    return parser


def _run(args: argparse.Namespace) -> int:
    cores = sorted(os.sched_getaffinity(0))
    client_core, server_core = cores[0], cores[-1]
    args.cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        costs = _measure_cost(args, logs, client_core, server_core)
        truth, true_ms = _measure_truth(args, logs, client_core, server_core)
    record = BenchRecord(
        schema=SCHEMA,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(router_core=client_core, load_core=server_core),
        commit=commit_of(ROOT)[0],
        has_changes=commit_of(ROOT)[1],
        rate_per_s=args.rate,
        num_requests=args.num_requests,
        tokens_per_request=args.tokens,
        costs=costs,
        truth=truth,
        true_latencies_ms=true_ms,
    )
    if args.output_file is not None:
        with args.output_file.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
    is_cheap = _print_cost(costs)
    is_true = _print_truth(truth, true_ms, args.tolerance_ms)
    num_missed = truth.num_missed + sum(report.num_missed for report in costs)
    if num_missed:
        print(f"FAIL: {num_missed} requests failed")
    return 0 if is_cheap and is_true and not num_missed else 1


def _measure_cost(
    args: argparse.Namespace, logs: Path, client_core: int, server_core: int
) -> list[ClientReport]:
    port = _free_port()
    tool = compile_tool("mock_worker", args.cache_dir, _say)
    command = [str(tool), str(port), "null", str(INTERVAL_US)]
    server = PinnedProcess(command, core=server_core, log_path=logs / "worker")
    try:
        _wait_for(port, server)
        reports = []
        for number in range(args.rounds):
            for kind in (OWN, PLAIN):
                _say(f"round {number + 1} of {args.rounds}: {kind}")
                reports.append(_run_client(kind, port, args, client_core))
        return reports
    finally:
        server.stop()


def _measure_truth(
    args: argparse.Namespace, logs: Path, client_core: int, server_core: int
) -> tuple[ClientReport, dict[str, float]]:
    port = _free_port()
    log_path = logs / "truth"
    command = [sys.executable, "-m", "bench.truth_server", str(port), "1"]
    server = PinnedProcess(command, core=server_core, log_path=log_path, env=_env())
    try:
        _wait_for(port, server)
        _say("truth")
        report = _run_client(OWN, port, args, client_core)
    finally:
        server.stop()
    stamps = [json.loads(line) for line in log_path.read_text().splitlines()]
    stamps = [stamp for stamp in stamps if not stamp["name"].startswith("warmup")]
    if len(stamps) != args.num_requests:
        raise BenchError(f"{len(stamps)} of {args.num_requests} requests came to the truth server")
    return report, _true_ms(stamps)


def _true_ms(stamps: list[dict[str, float | None]]) -> dict[str, float]:
    true_ms: dict[str, float] = {}
    for metric in ("ttft", "tpot", "e2e_latency"):
        values = [stamp[f"{metric}_s"] for stamp in stamps]
        stats = latency_stats([value for value in values if value is not None])
        if stats is not None:
            named = (
                ("mean", stats.mean_ms),
                ("p50", stats.median_ms),
                ("p90", stats.p90_ms),
                ("p99", stats.p99_ms),
            )
            true_ms |= {f"{name}_{metric}": value for name, value in named}
    return true_ms


def _run_client(kind: str, port: int, args: argparse.Namespace, core: int) -> ClientReport:
    command = [sys.executable, "-m", "bench.stream_clients", kind, f"http://127.0.0.1:{port}"]
    command += [str(args.num_requests), str(args.rate), str(args.tokens)]
    own_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        done = subprocess.run(
            command, env=_env(), capture_output=True, text=True, check=False, timeout=300
        )
    finally:
        os.sched_setaffinity(0, own_cores)
    if done.returncode != 0:
        raise BenchError(f"{kind} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout, type=ClientReport)


def _print_cost(costs: list[ClientReport]) -> bool:
    print("CPU time of the client per received token, us: median (smallest-largest)")
    medians = {}
    for kind in (OWN, PLAIN):
        values = [1e6 * each.cpu_s / each.num_tokens for each in costs if each.kind == kind]
        medians[kind] = median(values)
        print(f"  {kind:30} {medians[kind]:6.1f} ({min(values):.1f}-{max(values):.1f})")
    errors = [each.p99_send_error_ms for each in costs if each.p99_send_error_ms is not None]
    tokens_per_s = [each.num_tokens / each.wall_s for each in costs if each.kind == OWN]
    print(f"  ratio {medians[OWN] / medians[PLAIN]:.2f}; tokens/s {median(tokens_per_s):,.0f}")
    print(f"  p99 of the error in sending time, worst round: {max(errors):.1f} ms")
    is_cheap = medians[OWN] <= TARGET_US
    print(f"{'PASS' if is_cheap else 'FAIL'}: at most {TARGET_US:g} us per token")
    return is_cheap


def _print_truth(report: ClientReport, true_ms: dict[str, float], tolerance_ms: float) -> bool:
    print("\nfigure               client ms   server ms   difference")
    is_true = True
    for name, truth in true_ms.items():
        seen = report.latencies_ms[name]
        is_true = is_true and abs(seen - truth) <= tolerance_ms
        print(f"{name:18} {seen:11.2f} {truth:11.2f} {seen - truth:12.2f}")
    print(f"{'PASS' if is_true else 'FAIL'}: within {tolerance_ms:g} ms of the truth")
    return is_true


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])}


def _free_port() -> int:
    for port in range(21_700, 21_800):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BenchError("no free port from 21700 to 21799")


def _wait_for(port: int, server: PinnedProcess) -> None:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        server.wait_s(0.05)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise BenchError(f"{server.command[0]} does not listen on port {port}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
