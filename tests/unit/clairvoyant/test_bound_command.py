"""The command: points of runs, the table, and what it refuses."""

from pathlib import Path

import msgspec
import pytest
from clairvoyant.bound import Bound
from clairvoyant.cli import main
from clairvoyant.point import read_points
from clairvoyant.table import Row, render
from scheduler_runs.bounds import read_bounds

from hfx_sgl.errors import ConfigError
from hfx_sgl.results.run import INFO_FILE, RECORDS_FILE
from hfx_sgl.sim.cli import main as simulate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("round_robin", "cache_aware"):
        flags = ["--workers", "1", "--load-factor", "4", "--duration", "6", "--policy", policy]
        output = ["--output", str(folder / policy)]
        assert simulate([*flags, "--page-size", "16", *output]) == 0
    return folder


def _change(folder: Path, **fields: object) -> None:
    info = msgspec.json.decode((folder / INFO_FILE).read_bytes())
    assert fields.keys() <= info.keys()
    (folder / INFO_FILE).write_bytes(msgspec.json.encode(info | fields))


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    for file in (runs / "round_robin").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_runs_of_one_point_share_its_bound(runs: Path) -> None:
    (point,) = read_points([runs], None)
    assert [run.info.policy for run in point.runs] == ["cache_aware", "round_robin"]
    assert point.point.spec.shape == "1"
    assert point.point.spec.engine == {"page_tokens": 16}
    assert len(point.point.requests()) == sum(1 for _ in point.runs[0].records())


def test_the_table_says_what_each_policy_attained_of_the_bound(
    runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "table.md"
    assert main(["runs", str(runs), "--output", str(output), "--processes", "1"]) == 0
    captured = capfd.readouterr()
    assert "1 of 1" in captured.err
    assert captured.out == ""
    text = output.read_text()
    assert "| load | seeds | bound | cache_aware, of bound | round_robin, of bound |" in text
    assert "| 4x | 1 |" in text
    assert "one machine with the speed of all of them" in text


def test_a_load_needs_no_runs(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--workers", "1", "--load-factors", "1", "9", "--duration", "3"]
    assert main(["load", *flags, "--processes", "1"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("Cluster 1\n")
    assert "| 1x | 1 |" in out
    assert "| 9x | 1 |" in out


def test_medians_over_seeds() -> None:
    rows = [
        Row(
            shape="4",
            load_factor=8.0,
            bound=Bound(num_requests=100, num_kept=kept, num_intervals=1, is_final=True),
            attained=(("hfx", attained),),
        )
        for kept, attained in ((80, 0.4), (90, 0.81), (100, 0.7))
    ]
    assert "| 8x | 3 | 90.0 % | 70.0 %, 0.700 |" in render(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load", "--processes", "1"], "--workers"),
        (["load", "--workers", "1", "--rounds", "0"], "--rounds"),
        (["load", "--workers", "1", "--processes", "0"], "--processes"),
        (["runs", "/nonexistent"], "no finished run"),
        (
            ["load", "--workers", "1", "--duration", "2", "--enable-mixed-chunk"],
            "--enable-mixed-chunk",
        ),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 1}, "not those of workload mixed"),
        ({"load_factor": 3.0}, "not those of workload mixed"),
        ({"tool": "loadtest"}, "for simulations"),
        ({"settings": {"time_scales": "1 2"}}, "workers differ"),
        ({"settings": {}}, "settings.network_s"),
        ({"cluster": "two"}, "cluster"),
    ],
)
def test_runs_that_it_does_not_hold_for_are_refused(
    copied: Path, fields: dict[str, object], message: str
) -> None:
    _change(copied, **fields)
    with pytest.raises(ConfigError, match=message):
        read_points([copied], None)


def test_a_run_that_a_number_of_requests_ended_is_planned_whole(tmp_path: Path) -> None:
    flags = ["--workers", "1", "--num-requests", "7", "--output", str(tmp_path / "run")]
    assert simulate([*flags, "--policy", "round_robin"]) == 0
    (point,) = read_points([tmp_path], None)
    assert len(point.point.requests()) == 7


def test_a_cut_record_file_is_refused(copied: Path) -> None:
    lines = (copied / RECORDS_FILE).read_text().splitlines(keepends=True)
    (copied / RECORDS_FILE).write_text("".join(lines[:-1]))
    with pytest.raises(ConfigError, match="its requests are not those"):
        read_points([copied], None)


def test_bounds_for_bench_scheduler(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    flags = ["--output", str(tmp_path / "table.md"), "--json", str(path), "--processes", "1"]
    assert main(["runs", str(runs), *flags]) == 0
    bounds, assumptions = read_bounds(path)
    assert list(bounds) == [("1", 4.0)]
    assert 0 < bounds["1", 4.0] <= 1
    assert "clairvoyant_bound" in assumptions
