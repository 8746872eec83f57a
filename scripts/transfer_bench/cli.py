"""The command line of `scripts/bench_transfer`: settings in, a page and a JSON file out."""

import argparse
import importlib.util
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.machine import commit_of, cpu_model, cpu_ticks
from transfer_bench.content import MIB, NUM_TENSORS, make_content
from transfer_bench.crowd_plan import CrowdPlan
from transfer_bench.crowds import CrowdSession
from transfer_bench.plain_ways import has_safetensors
from transfer_bench.processes import BenchError
from transfer_bench.report import render
from transfer_bench.results import SCHEMA, BenchRecord, Crowd, Machine, Settings, Way
from transfer_bench.session import LIMITS, Session
from transfer_bench.summary import crowd_rows_of, failures, ratios_of, rows_of, verdicts_of
from transfer_bench.throttle import DiskThrottle, ThrottleError, disk_of

from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.netns import can_isolate, isolate
from hfx_sgl.policy.bounds import at_least, check, more_than

ROOT = Path(__file__).parents[2]
NAMES = [*map(str, Way), *map(str, Crowd)]

DESCRIPTION = f"""\
Measures how fast weights get from a peer's memory into a new process, in every way that there is
on this machine, against disks, raw sockets, memcpy and the way in which SGLang calls Mooncake.

Every way is run once in each round, in rotating order, into memory without pages, and compared bit
by bit afterwards; what fails does not count. Rows for limited disks need root and a blkio or io
cgroup, rows for Mooncake and limited links need to make a network namespace with nothing but
loopback, in which all of this then runs. Prints medians (smallest-largest), ratios paired by
round, where disk wins, and whether each target was reached. Other load on the machine shows in the
figures. Exits with 0 whatever the verdicts, with 1 when a run failed, with 2 on bad arguments.

ways: {", ".join(NAMES)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = _parse(argv)
    # Leaving through an exception stops every child.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        record = run(arguments)
    except ConfigError as exc:
        say(f"bench_transfer: {exc}")
        return 2
    except (BenchError, LaunchError) as exc:
        say(f"bench_transfer: {exc}")
        return 1
    except KeyboardInterrupt:
        return 130
    page = render(record)
    if arguments.results is not None:
        arguments.results.mkdir(parents=True, exist_ok=True)
        (arguments.results / "bench.md").write_text(page)
        data = msgspec.json.format(msgspec.json.encode(record), indent=1)
        (arguments.results / "bench.json").write_bytes(data + b"\n")
    print(page)
    return int(any(failures(record.measurements, record.crowd_measurements)))


def run(arguments: argparse.Namespace) -> BenchRecord:
    """Measure and return the record."""
    _check(arguments)
    is_isolated = can_isolate()
    if is_isolated:
        isolate()
    settings = _settings(arguments)
    load_start, (stolen, total) = os.getloadavg(), cpu_ticks()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.work_dir, prefix="bench-") as name:
        folder = Path(name)
        say(f"writing {arguments.mib} MiB of weights")
        content = make_content(folder, settings.size_bytes)
        not_run = _reasons(folder, is_isolated)
        not_run = {name: not_run[name] for name in settings.only if name in not_run}
        chosen = [name for name in settings.only if name not in not_run]
        session = Session(content, log_dir=folder, say=say)
        ways = [Way(each) for each in chosen if each in list(Way)]
        measurements = session.measure(ways, settings.num_rounds) if ways else []
        crowds = [Crowd(each) for each in chosen if each in list(Crowd)]
        crowd_plan = CrowdPlan.of(settings)
        crowd_session = CrowdSession(content, crowd_plan, folder=folder, say=say)
        crowd_measurements = crowd_session.measure(crowds) if crowds else []
    stolen_end, total_end = cpu_ticks()
    commit, is_dirty = commit_of(ROOT)
    ratios = ratios_of(measurements)
    crowd_rows = crowd_rows_of(crowd_measurements, os.cpu_count() or 1)
    return BenchRecord(
        schema=SCHEMA,
        started_at=started_at,
        commit=commit,
        is_dirty=is_dirty,
        machine=_machine(arguments.work_dir),
        settings=settings,
        load_average_start=load_start,
        load_average_end=os.getloadavg(),
        stolen_cpu_ratio=(stolen_end - stolen) / max(total_end - total, 1),
        not_run=not_run,
        measurements=measurements,
        crowd_measurements=crowd_measurements,
        rows=rows_of(measurements, settings.size_bytes),
        ratios=ratios,
        crowd_rows=crowd_rows,
        verdicts=verdicts_of(ratios, crowd_rows, settings.num_receivers),
    )


def say(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench_transfer",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser.add_argument_group("what is measured")
    group.add_argument("--rounds", type=int, default=7, metavar="N", help="(%(default)s)")
    group.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="WAY", help="these ways (all)"
    )
    group.add_argument("--mib", type=int, default=1024, metavar="N", help="size (%(default)s)")
    group = parser.add_argument_group("several receivers")
    group.add_argument("--receivers", type=int, default=8, metavar="N", help="(%(default)s)")
    group.add_argument(
        "--crowd-rounds", type=int, default=3, metavar="N",
        help="rounds of one receiver and of all (%(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--link-mb-per-s", type=float, default=50.0, metavar="X",
        help="what leaves each address on limited links, in 10^6 bytes a second (%(default)s); all "
        "receivers together must stay below what the processors can move",
    )  # fmt: skip
    group.add_argument(
        "--link-mib", type=int, default=256, metavar="N", help="size on those (%(default)s)"
    )
    group = parser.add_argument_group("files")
    group.add_argument(
        "--results", type=Path, metavar="DIR", help="write bench.md and bench.json there"
    )
    group.add_argument(
        "--work-dir", type=Path, default=ROOT / ".hfx" / "bench_transfer", metavar="DIR",
        help="on the disk that is to be measured (.hfx/bench_transfer in the checkout)",
    )  # fmt: skip
    return parser.parse_args(argv)


def _check(arguments: argparse.Namespace) -> None:
    check(
        at_least("--rounds", arguments.rounds, 1),
        at_least("--crowd-rounds", arguments.crowd_rounds, 1),
        at_least("--mib", arguments.mib, 1),
        at_least("--link-mib", arguments.link_mib, 1),
        at_least("--receivers", arguments.receivers, 2),
        more_than("--link-mb-per-s", arguments.link_mb_per_s, 0),
    )


def _settings(arguments: argparse.Namespace) -> Settings:
    return Settings(
        num_rounds=arguments.rounds,
        num_crowd_rounds=arguments.crowd_rounds,
        size_bytes=arguments.mib * MIB,
        num_tensors=NUM_TENSORS,
        num_receivers=arguments.receivers,
        link_bytes_per_s=arguments.link_mb_per_s * 1e6,
        link_size_bytes=arguments.link_mib * MIB,
        only=[name for name in NAMES if name in arguments.only],
    )


def _reasons(folder: Path, is_isolated: bool) -> dict[str, str]:
    """Return what cannot be run here, and why."""
    reasons: dict[str, str] = {}
    if not has_safetensors():
        reasons |= dict.fromkeys((Way.DISK_COLD, Way.DISK_WARM), "needs safetensors and torch")
    try:
        with DiskThrottle(folder / "weights.safetensors", 1_000_000):
            pass
    except ThrottleError as exc:
        reasons |= dict.fromkeys(LIMITS, str(exc))
    if not is_isolated:
        alone = "needs a network namespace of its own, which this user must not make"
        reasons |= dict.fromkeys(
            (Way.BATCH, Way.MOONCAKE, Crowd.LINKS_STAR, Crowd.LINKS_PLAN), alone
        )
    elif importlib.util.find_spec("mooncake") is None:
        reasons |= dict.fromkeys((Way.BATCH, Way.MOONCAKE), "Mooncake is not installed")
    if not _has_cuda():
        reasons[Way.CUDA] = "no CUDA device"
    return {str(name): reason for name, reason in reasons.items()}


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _machine(folder: Path) -> Machine:
    try:
        disk = _disk_name(disk_of(folder))
    except ThrottleError:
        disk = "unknown"
    return Machine(
        cpu_model=cpu_model(),
        num_cpus=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        kernel=platform.release(),
        python=platform.python_version(),
        disk=disk,
    )


def _disk_name(device: str) -> str:
    return Path("/sys/dev/block", device).resolve().name
