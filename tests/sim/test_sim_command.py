"""The command: a folder that can be read back, tables, and errors without traceback."""

from pathlib import Path

import pytest

from hfx_sgl.results.reader import read_run
from hfx_sgl.results.record import Status
from hfx_sgl.sim.cli import main

SMALL = ("--num-requests", "60", "--workload", "mixed")


def test_a_run_can_be_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    arguments = [
        "--prefill", "1", "--decode", "2", "--policy", "least_load", "--prefill-policy", "bucket",
        "--page-size", "16", "--disable-radix-cache", "--chunked-prefill-size", "4096",
        "--load-factor", "0.5", "--seed", "11", "--sample-interval-s", "20", *SMALL,
        "--output", str(folder),
    ]  # fmt: skip
    assert main(arguments) == 0
    run = read_run(folder)
    assert (run.info.tool, run.info.policy, run.info.cluster) == (
        "sim",
        "bucket+least_load",
        "1P+2D",
    )
    assert (run.info.workload, run.info.load_factor, run.info.seed) == ("mixed", 0.5, 11)
    assert run.info.is_valid
    assert run.info.settings["page_tokens"] == 16
    assert run.info.settings["has_prefix_cache"] is False
    assert run.info.settings["chunked_prefill_tokens"] == 4096
    assert run.info.settings["network_s"] == 0.0015
    records, samples = tuple(run.records()), tuple(run.workers())
    assert len(records) == run.summary.overall.num_requests == 60
    assert {record.status for record in records} == {Status.OK}
    assert {record.cached_tokens for record in records} == {0}
    assert {sample.worker for sample in samples} == {"prefill-0", "decode-0", "decode-1"}
    assert sorted({sample.at_s for sample in samples})[:2] == [0.0, 20.0]
    out = capsys.readouterr().out
    assert "1P+2D" in out
    assert "worst class" in out
    assert str(folder) in out


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--workers", "1", "--quiet", *SMALL, "--output", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--workers: "),
        (("--prefill", "2"), "--decode: "),
        (("--decode", "2"), "--prefill: "),
        (("--workers", "1", "--policy", "no_such"), "no_such"),
        (("--workers", "1", "--profile", "no_such"), "no_such"),
        (("--workers", "1", "--page-size", "0"), "page_tokens: "),
        (("--workers", "1", "--cache-threshold", "2"), "cache_threshold: "),
        (("--workers", "1", "--context-length", "200"), "--context-length: request "),
        (("--workers", "1", "--workload", "no_such"), "no_such"),
    ],
)
def test_bad_input_is_said_in_a_line(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    assert main(["--num-requests", "60", *arguments, "--output", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not folder.exists()


def test_a_folder_is_not_written_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--workers", "1", "--quiet", *SMALL, "--output", str(tmp_path / "run")]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_a_sweep_runs_the_product(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "sweep", "--workers", "2", *SMALL, "--policies", "random", "least_load",
        "--load-factors", "0.5", "2", "--seeds", "1", "2", "--processes", "2",
        "--output", str(tmp_path),
    ]  # fmt: skip
    assert main(arguments) == 0
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == sorted(
        f"{policy}_{load}x_seed{seed}"
        for policy in ("random", "least_load")
        for load in ("0.5", "2")
        for seed in (1, 2)
    )
    run = read_run(tmp_path / "random_2x_seed1")
    assert (run.info.policy, run.info.load_factor, run.info.seed) == ("random", 2.0, 1)
    assert run.info.settings["policy_seed"] == 1
    captured = capsys.readouterr()
    assert "8 of 8" in captured.err
    assert "least_load_0.5x_seed2" in captured.out


def test_a_sweep_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "--workers", "1", *SMALL, "--policies", "no_such", "--processes", "1"]
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "no_such" in capsys.readouterr().err
    arguments[-1] = "0"
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "--processes: " in capsys.readouterr().err
