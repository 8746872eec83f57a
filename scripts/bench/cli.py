"""The command line of `scripts/bench_router`: settings in, tables and a JSON line out."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.machine import commit_of, cpu_ticks, describe_machine
from bench.processes import raise_descriptor_limit
from bench.report import render
from bench.results import SCHEMA, BenchRecord, Settings
from bench.session import Place, Session
from bench.summary import collect, figures_of, problems_of, ratios_of, verdicts_of
from bench.toolchain import SGLANG_ROUTER_VERSION, BenchError, make_tools

ROOT = Path(__file__).parents[2]
IMPORT_DIRS = (ROOT, ROOT / "router", ROOT / "transfer")
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARMUP_S = 2, 1.0, 0.3

DESCRIPTION = """\
Compares hfx-router with sglang-router on one core, in front of the same fast mock workers.

Installs sglang-router beside this project, compiles a mock worker and a load client in C, pins
the router to one core and workers and client to another, and measures both routers in the same
run, alternating, for several rounds. Prints medians (smallest-largest), ratios, and PASS or FAIL
per target. Exits with 0 whatever the verdicts, with 1 when a request failed or a process ended,
with 2 on bad arguments. Other load on the machine shows in the figures; CPU per request and per
chunk suffer least from it.
"""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ends the process with 2 on a mistake."""
    parser = argparse.ArgumentParser(
        prog="bench_router",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="how often each phase is run (default 5)")
    add("--seconds", type=float, default=4.0, help="measured time of a phase (default 4)")
    add("--warmup", type=float, default=1.0, help="seconds of load before it (default 1)")
    add(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS:g} s: a look, not a measurement",
    )
    add(
        "--only",
        choices=["regular", "pd", "stream"],
        help="only non-streamed requests to one worker, only those to a pair, or only streams",
    )
    add("--output-file", type=Path, help="append the record to this file, as one JSON line")
    add(
        "--cache-dir",
        type=Path,
        default=ROOT / ".hfx" / "bench",
        help="where tools, the sglang-router venv and logs go (default .hfx/bench)",
    )
    add("--base-port", type=int, default=22_000, help="first of 40 loopback ports (default 22000)")
    add("--router-core", type=int, help="core of the router (default: the last allowed one)")
    add("--load-core", type=int, help="core of workers and client (default: the first allowed)")
    add(
        "--log-level",
        choices=["info", "warn"],
        default="warn",
        help="of both routers (default warn: at info, sglang-router writes a line per request)",
    )
    add("--hfx-python", default=sys.executable, help="python that runs hfx-router")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = QUICK_ROUNDS, QUICK_SECONDS
        arguments.warmup = QUICK_WARMUP_S
    if arguments.rounds < 1 or arguments.seconds < 0.2 or arguments.warmup < 0:
        parser.error("--rounds must be at least 1, --seconds at least 0.2, --warmup not negative")
    if not 1024 <= arguments.base_port <= 32_700:
        parser.error("--base-port must be between 1024 and 32700")
    choose_cores(arguments, parser)
    return arguments


def choose_cores(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Fill in the cores that were not given; two different allowed ones are needed."""
    allowed = sorted(os.sched_getaffinity(0))
    if arguments.router_core is None:
        arguments.router_core = allowed[-1]
    if arguments.load_core is None:
        arguments.load_core = allowed[0]
    cores = {arguments.router_core, arguments.load_core}
    if len(cores) < 2 or not cores <= set(allowed):
        parser.error(f"--router-core and --load-core must be two different ones of {allowed}")


def make_settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings of a run; sizes that make records comparable are fixed."""
    return Settings(
        num_rounds=arguments.rounds,
        seconds=arguments.seconds,
        warmup_s=arguments.warmup,
        only=arguments.only,
        sglang_router_version=SGLANG_ROUTER_VERSION,
        log_level=arguments.log_level,
        num_saturating_connections=32,
        num_ttft_streams=16,
        num_ttft_tokens=16,
        num_steady_streams=128,
        num_flood_streams=1000,
        num_stream_tokens=128,
        token_interval_us=10_000,
    )


def run(arguments: argparse.Namespace) -> BenchRecord:
    """Measure and return the record."""
    settings = make_settings(arguments)
    tools = make_tools(arguments.cache_dir, say)
    raise_descriptor_limit()
    os.sched_setaffinity(0, {arguments.load_core})
    load_average_start, (stolen, total) = os.getloadavg(), cpu_ticks()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    place = Place(
        base_port=arguments.base_port,
        router_core=arguments.router_core,
        load_core=arguments.load_core,
        log_dir=arguments.cache_dir / "logs",
        hfx_python=arguments.hfx_python,
        env=router_environment(os.environ),
    )
    session = Session(settings=settings, place=place, tools=tools, say=say)
    measurements, worker_counts = session.measure()
    stolen_end, total_end = cpu_ticks()
    series = collect(measurements)
    figures, ratios = figures_of(series), ratios_of(series)
    commit, is_dirty = commit_of(ROOT)
    return BenchRecord(
        schema=SCHEMA,
        started_at=started_at,
        commit=commit,
        is_dirty=is_dirty,
        machine=describe_machine(router_core=arguments.router_core, load_core=arguments.load_core),
        settings=settings,
        load_average_start=load_average_start,
        load_average_end=os.getloadavg(),
        stolen_cpu_ratio=(stolen_end - stolen) / max(total_end - total, 1),
        measurements=measurements,
        worker_counts=worker_counts,
        figures=figures,
        ratios=ratios,
        verdicts=verdicts_of(figures, ratios),
    )


def router_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this checkout on the import path and nothing off loopback.

    No proxy stands in the way, and sglang-router, which looks for the tokenizer of every model it
    meets, finds a closed port in place of the model hub.
    """
    env = {name: value for name, value in environ.items() if not name.lower().endswith("_proxy")}
    paths = [*map(str, IMPORT_DIRS), *filter(None, [environ.get("PYTHONPATH")])]
    return {**env, "PYTHONPATH": os.pathsep.join(paths), "HF_ENDPOINT": "http://127.0.0.1:9"}


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = parse_arguments(argv)
    # Leaving through an exception stops every child.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        record = run(arguments)
    except BenchError as exc:
        say(f"bench_router: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.output_file is not None:
        with arguments.output_file.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
    print(render(record))
    problems = problems_of(record.measurements, record.worker_counts)
    return int(any(problem.is_fatal for problem in problems))
