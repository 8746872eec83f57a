"""hfx-report over runs of the simulator: the page, its plots, and what it refuses."""

import re
import struct
import sys
from pathlib import Path

import pytest

from hfx_sgl.report.cli import main as report
from hfx_sgl.sim.cli import main as simulate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for shape, flags in {
        "unified": ["--workers", "1"],
        "pairs": ["--prefill", "1", "--decode", "1"],
    }.items():
        for policy in ("round_robin", "least_load"):
            for seed in ("0", "1"):
                status = simulate(
                    [
                        *flags,
                        *("--policy", policy, "--seed", seed, "--duration", "5", "--quiet"),
                        *("--sample-interval-s", "1"),
                        *("--output", str(folder / shape / f"{policy}-{seed}")),
                    ]
                )
                assert status == 0
    return folder


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_the_page_has_every_table_and_plot(runs: Path, tmp_path: Path) -> None:
    assert report([str(runs), "--output", str(tmp_path / "page"), "--title", "Two clusters"]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    assert page.startswith("# Two clusters\n")
    assert "## 1 unified" in page
    assert "## 1P+1D" in page
    assert "- runs: 8;" in page
    plots = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert len(plots) == 1 + 2 * 3
    for plot in plots:
        width, height = png_size(tmp_path / "page" / plot)
        assert 400 <= width <= 1_300
        assert height > 200


def test_the_same_runs_give_the_same_files(runs: Path, tmp_path: Path) -> None:
    pages = [tmp_path / name for name in ("one", "two")]
    for page in pages:
        assert report([str(runs / "unified"), "--output", str(page)]) == 0
    files = sorted(path.name for path in pages[0].iterdir())
    assert files
    for name in files:
        assert (pages[0] / name).read_bytes() == (pages[1] / name).read_bytes(), name


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(tmp_path), "--output", str(tmp_path / "page")]) == 2
    assert "no run in it" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_damaged_run_is_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "run"
    damaged.mkdir()
    for path in (runs / "unified" / "round_robin-0").iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    (damaged / "records.jsonl").write_text('{"request_id": 1}\n')
    assert report([str(damaged), "--output", str(tmp_path / "page")]) == 2
    assert "records.jsonl:1: request_id" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert report([str(runs / "unified"), "--output", str(tmp_path / "page")]) == 2
    assert "pip install 'hfx-sgl[report]'" in capsys.readouterr().err
