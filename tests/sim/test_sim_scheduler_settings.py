"""Settings of the scheduler as NAME=VALUE."""

from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.results.reader import read_run
from hfx_sgl.sim.cli import main
from hfx_sgl.sim.scheduler_settings import scheduler_config, setting_names

SMALL = ("--workers", "1", "--policy", "hfx", "--num-requests", "30", "--quiet")


def test_nothing_set_is_the_default() -> None:
    assert scheduler_config([]) == SchedulerConfig()


def test_values_are_read_by_the_kind_of_their_setting() -> None:
    config = scheduler_config(
        ["lookahead_s=1", "window=7", "on_infeasible=best_effort", "kv_fill=0.5", "kv_fill=0.25"]
    )
    assert config == SchedulerConfig(
        lookahead_s=1.0, window=7, on_infeasible=OnInfeasible.BEST_EFFORT, kv_fill=0.25
    )
    assert isinstance(config.window, int)


@pytest.mark.parametrize(
    ("assignments", "problems"),
    [
        (["window"], ["must be NAME=VALUE (got 'window')"]),
        (["windou=3"], ["no such setting 'windou'; did you mean window?"]),
        (["zzz=3"], [f"no such setting 'zzz'; there are {', '.join(setting_names())}"]),
        (["window=2.5"], ["window: must be a whole number (got '2.5')"]),
        (["kv_fill=full"], ["kv_fill: must be a number (got 'full')"]),
        (
            ["on_infeasible=drop"],
            ["on_infeasible: must be one of demote, reject, best_effort (got 'drop')"],
        ),
        (["kv_fill=2"], ["kv_fill: must be between 0.01 and 1 (got 2.0)"]),
        (["a", "b"], ["must be NAME=VALUE (got 'a')", "must be NAME=VALUE (got 'b')"]),
    ],
)
def test_what_cannot_be_set_is_said(assignments: list[str], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        scheduler_config(assignments)
    assert list(caught.value.problems) == [f"--scheduler-set: {text}" for text in problems]


def test_a_run_obeys_and_records_its_settings(tmp_path: Path) -> None:
    for name, flags in (
        ("default", ()),
        ("set", ("--scheduler-set", "lookahead_s=9", "--scheduler-set", "tpot_margin=0.5")),
    ):
        assert main([*SMALL, *flags, "--load-factor", "8", "--output", str(tmp_path / name)]) == 0
    default, changed = read_run(tmp_path / "default"), read_run(tmp_path / "set")
    assert default.info.settings["scheduler_lookahead_s"] == SchedulerConfig().lookahead_s
    assert changed.info.settings["scheduler_lookahead_s"] == 9.0
    assert changed.info.settings["scheduler_tpot_margin"] == 0.5
    assert list(default.records()) != list(changed.records())


def test_other_policies_do_not_record_them(tmp_path: Path) -> None:
    flags = [*SMALL, "--policy", "random", "--output", str(tmp_path / "run")]
    assert main(flags) == 0
    assert not [name for name in read_run(tmp_path / "run").info.settings if "scheduler" in name]


def test_bad_settings_stop_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*SMALL, "--scheduler-set", "windou=3", "--output", str(tmp_path / "run")]
    assert main(flags) == 2
    assert "--scheduler-set: no such setting 'windou'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
