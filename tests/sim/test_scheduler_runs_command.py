"""The command scripts/bench_scheduler, on a small scale."""

from pathlib import Path

import pytest
from baselines.shapes import SHAPES
from scheduler_runs import cases
from scheduler_runs.ablations import ABLATIONS
from scheduler_runs.cases import Case, Runner
from scheduler_runs.cli import main
from scheduler_runs.conditions import CONDITIONS, Models, World
from scheduler_runs.robustness import fit_usual

from hfx_sgl.engine.profile import DEFAULT_PROFILE, profile_names
from hfx_sgl.results.reader import read_run
from hfx_sgl.sim.scheduler_settings import scheduler_config
from hfx_sgl.workload.load import load_workload

PD = next(shape for shape in SHAPES if not shape.num_workers)
UNIFIED = next(shape for shape in SHAPES if shape.num_workers)


def case(seed: int = 1, **fields: object) -> Case:
    values: dict[str, object] = {
        "folder": "part",
        "shape": UNIFIED,
        "policy": "round_robin",
        "load_factor": 1.5,
        "seed": seed,
        "duration_s": 4.0,
        "profile": DEFAULT_PROFILE,
    }
    return Case(**(values | fields))  # type: ignore[arg-type]


def flags(tmp_path: Path, part: str, *more: str) -> list[str]:
    folders = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    return [*folders, "--parts", part, "--processes", "2", *more]


def test_a_case_becomes_a_job_with_its_changes() -> None:
    found = case(
        shape=PD, policy="hfx", changes={"scheduler": scheduler_config(["window=3"])}, seed=7
    )
    assert found.name == "part/2p+2d/hfx_1.5x_seed7"
    assert found.job.spec.scheduler.window == 3
    assert (found.job.spec.shape, found.job.spec.policy, found.job.spec.seed) == ("2P+2D", "hfx", 7)
    assert (found.job.load.load_factor, found.job.load.seed, found.job.load.duration_s) == (
        1.5, 7, 4.0,
    )  # fmt: skip


def test_what_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(folder=tmp_path, num_processes=1)
    first, second = runner.run("part", [case(1), case(2)])
    asked: list[str] = []
    monkeypatch.setattr(
        cases, "run_sweep", lambda runs, *_, **__: asked.extend(run.name for run in runs)
    )
    again = runner.run("part", [case(2), case(1), case(2)])
    assert [run.path for run in again] == [second.path, first.path, second.path]
    assert not asked


def test_what_was_stopped_is_run_again(tmp_path: Path) -> None:
    runner = Runner(folder=tmp_path, num_processes=1)
    folder = tmp_path / case().name
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("half a rec")
    (run,) = runner.run("part", [case()])
    assert len(list(run.records())) == run.summary.overall.num_requests > 0


def test_rows_have_folders_of_their_own() -> None:
    names = [condition.name for condition in CONDITIONS]
    assert len(set(names)) == len(names)
    assert len({ablation.folder for ablation in ABLATIONS}) == len(ABLATIONS)
    for ablation in ABLATIONS:
        is_default = scheduler_config(ablation.settings) == scheduler_config([])
        assert is_default is not bool(ablation.settings)


def test_worlds_exist() -> None:
    worlds: dict[str, World] = {condition.world.name: condition.world for condition in CONDITIONS}
    assert len({id(condition.world) for condition in CONDITIONS}) == len(worlds)
    for world in worlds.values():
        assert load_workload(world.workload).name
        assert set(world.changes("usual")["worker_profiles"]) <= {*profile_names(), "usual"}
        for shape in SHAPES:
            if world.has(shape):
                # Raises when there are more scales or profiles than workers.
                job = case(shape=shape, changes=world.changes(DEFAULT_PROFILE)).job
                assert job.spec.shape == shape.label
    assert worlds["slow-decode"].has(PD)
    assert not worlds["slow-decode"].has(UNIFIED)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_models_of_the_usual_cluster_are_fitted_once_and_can_be_frozen() -> None:
    usual = fit_usual(UNIFIED, DEFAULT_PROFILE)
    assert min(usual.prefill.num_observations, usual.decode.num_observations) > 50
    by_models = {
        condition.models: condition.knowledge_with(usual)
        for condition in CONDITIONS
        if condition.world.name == "slower"
    }
    assert by_models[Models.NONE].saved_models is None
    assert by_models[Models.SAVED].saved_models == usual
    assert by_models[Models.SAVED].tells_times
    assert by_models[Models.FROZEN].saved_models == usual
    assert not by_models[Models.FROZEN].tells_times


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_small_sweep_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loads = ["--load-factors", "6", "8", "9", "--max-baseline-load", "8", "--clusters", "2P+2D"]
    status = main(flags(tmp_path, "sweep", *loads, "--seeds", "1", "--duration", "25"))
    page = (tmp_path / "results" / "targets.md").read_text()
    assert (status == 1) is ("**no**" in page or "| ? |" in page)
    assert "where round_robin first falls under 20 %" in page
    assert "1 seeds of 25 s of arrivals" in page
    report = (tmp_path / "results" / "sweep" / "report.md").read_text()
    assert "| policy | 6x | 8x | 9x |" in report
    swept = {path.name for path in (tmp_path / "runs" / "sweep" / "2p+2d").iterdir()}
    assert {"hfx_9x_seed1", "cache_aware_8x_seed1"} <= swept
    assert "cache_aware_9x_seed1" not in swept
    searched = {path.name for path in (tmp_path / "runs" / "breakdown").glob("*/*")}
    assert len([name for name in searched if name.startswith("hfx")]) == 2
    assert "targets reached" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_small_ablations_have_a_row_each(tmp_path: Path) -> None:
    arguments = ["--ablation-load-factors", "8", "--ablation-seeds", "1"]
    assert main(flags(tmp_path, "ablations", *arguments, "--ablation-duration", "15")) == 0
    page = (tmp_path / "results" / "ablations.md").read_text()
    for ablation in ABLATIONS:
        assert page.count(f"\n| {ablation.name} |") == 1 + 2 * len(SHAPES)
    assert (tmp_path / "results" / "ablations.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_small_robustness_has_a_row_each(tmp_path: Path) -> None:
    arguments = ["--robustness-load-factors", "6", "--robustness-seeds", "1"]
    status = main(
        flags(tmp_path, "robustness", *arguments, "--robustness-duration", "3", "--clusters", "4")
    )
    page = (tmp_path / "results" / "robustness.md").read_text()
    conditions = [condition for condition in CONDITIONS if condition.world.has(UNIFIED)]
    for condition in conditions:
        assert page.count(f"\n| {condition.name} |") == 1
    assert f"of {len(conditions)} cells no baseline attains more" in page
    assert (status == 1) is (f"In {len(conditions)} of" not in page)
    frozen = read_run(
        next((tmp_path / "runs" / "robustness").glob("*slower*frozen*/4/hfx_6x_seed1"))
    )
    assert frozen.info.settings["tells_times"] is False
    assert frozen.info.settings["time_scales"] == "1.2 1.2 1.2 1.2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "0"], "--processes: must be at least 1"),
        (["--seeds", "1", "1"], "--seeds: each only once"),
        (["--ablation-load-factors", "6", "6"], "--ablation-load-factors: each only once"),
        (["--bounds", "no-such-file"], "--bounds: no-such-file: "),
    ],
)
def test_bad_input_is_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(tmp_path, "sweep", *arguments)) == 2
    assert message in capsys.readouterr().err
