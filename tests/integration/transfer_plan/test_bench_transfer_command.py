import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from transfer_bench.results import BenchRecord, Crowd, Way
from transfer_bench.throttle import DiskThrottle, ThrottleError

from hfx_sgl.launch.netns import can_isolate

COMMAND = [sys.executable, str(Path(__file__).parents[3] / "scripts" / "bench_transfer")]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=110, check=False
    )


def small(tmp_path: Path, *arguments: str) -> BenchRecord:
    """Run with 4 MiB, once; return what it wrote."""
    outcome = bench(
        "--mib", "4", "--rounds", "1", "--crowd-rounds", "1", "--receivers", "2",
        "--link-mib", "2", "--results", str(tmp_path / "out"), "--work-dir", str(tmp_path),
        *arguments,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr + outcome.stdout
    assert (tmp_path / "out" / "bench.md").read_text() in outcome.stdout
    assert "round 1 of 1" in outcome.stderr
    assert not list(tmp_path.glob("bench-*")), "the weights are removed"
    return msgspec.json.decode((tmp_path / "out" / "bench.json").read_bytes(), type=BenchRecord)


def test_every_way_that_needs_no_privilege_counts(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = ["memcpy", "sockets", "socket", "shm-copy", "shm-checked", "shm", "cuda"]
    record = small(tmp_path, "--only", *names)
    measured = {each.way for each in record.measurements if each.problem is None}
    assert measured | {Way(name) for name in record.not_run} == {Way(name) for name in names}
    assert {each.way for each in record.rows} == measured
    notes = {each.way: each.note for each in record.measurements}
    assert "socket" in notes[Way.SOCKET]
    assert notes[Way.SHM] == notes[Way.SHM_CHECKED] == "mapped"
    assert all(each.seconds > 0 for each in record.measurements)
    goals = {each.target: each.is_reached for each in record.verdicts}
    assert goals["over TCP, verified, of raw sockets"] is not None
    assert goals["over TCP, times disk at 200 MB/s"] is None


@pytest.mark.skipif(not can_isolate(), reason="needs a network namespace of its own")
def test_receivers_pass_on_what_they_have_over_limited_links(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    record = small(tmp_path, "--only", Crowd.LINKS_PLAN, "--link-mb-per-s", "20")
    one, two = sorted(record.crowd_measurements, key=lambda each: each.num_receivers)
    assert (one.num_receivers, two.num_receivers) == (1, 2)
    # 2 MiB in chunks of at most 8 do not overlap: both are one hop, or two behind each other.
    assert one.problem is two.problem is None
    assert one.seconds >= 0.7 * 2 * 2**20 / 20e6
    assert two.predicted_s is not None
    assert record.crowd_rows[0].ratio.median > 1


def test_disks_are_read_cold(tmp_path: Path) -> None:
    try:
        with DiskThrottle(tmp_path, 1_000_000):
            pass
    except ThrottleError as exc:
        pytest.skip(str(exc))
    record = small(tmp_path, "--only", "disk-cold-reads", "disk-200")
    assert {each.way for each in record.measurements} == {Way.DISK_COLD_READS, Way.DISK_200}
    assert all(each.disk_bytes >= 0.98 * 4 * 2**20 for each in record.measurements)
    assert [row.num_failed for row in record.rows] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: must be at least 1"),
        (["--mib", "0", "--receivers", "1"], "--receivers: must be at least 2"),
        (["--link-mb-per-s", "0"], "--link-mb-per-s: must be more than 0"),
        (["--only", "tape"], "invalid choice: 'tape'"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], message: str) -> None:
    outcome = bench(*arguments)
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_help_names_all_ways() -> None:
    outcome = bench("--help")
    assert outcome.returncode == 0
    assert all(name in outcome.stdout for name in [*Way, *Crowd])
