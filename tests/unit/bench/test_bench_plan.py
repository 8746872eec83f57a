"""What the router benchmark visits, with which commands."""

from pathlib import Path

import pytest
from bench.cli import main, make_settings, parse_arguments, router_environment
from bench.plan import FLOOD_WARMUP_S, Phase, make_phase, plan_round
from bench.results import PhaseName, Settings, SetupName
from bench.session import Place, router_command
from bench.toolchain import Tools


def _settings(*arguments: str) -> Settings:
    cores = ["--router-core", "1", "--load-core", "0"]
    return make_settings(parse_arguments([*arguments, *cores]))


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})


def _visited(settings: Settings, round_index: int = 0) -> list[tuple[SetupName, PhaseName]]:
    return [(setup, phase.name) for setup, phase in plan_round(settings, round_index)]


def test_a_whole_run_measures_every_setup_in_every_phase_but_cache_aware_streams() -> None:
    visited = _visited(_settings())
    expected = {
        (setup, phase)
        for setup in SetupName
        for phase in PhaseName
        if setup is not SetupName.HFX_CACHE_AWARE
        or phase in (PhaseName.SATURATED, PhaseName.SINGLE)
    }
    assert len(visited) == len(expected)
    assert set(visited) == expected


def test_setups_alternate_and_odd_rounds_turn_round() -> None:
    settings = _settings("--only", "pd")
    even, odd = (_visited(settings, index)[:4] for index in (0, 1))
    assert even == [(setup, PhaseName.SATURATED) for setup, _ in even]
    assert [setup for setup, _ in even] == [
        SetupName.DIRECT,
        SetupName.SGLANG_PD,
        SetupName.HFX_PD,
        SetupName.HFX_PD_SCHEDULED,
    ]
    assert odd == even[::-1]


@pytest.mark.parametrize(
    ("only", "absent"),
    [
        ("regular", {SetupName.SGLANG_PD, SetupName.HFX_PD, SetupName.HFX_PD_SCHEDULED}),
        (
            "pd",
            {
                SetupName.SGLANG_REGULAR,
                SetupName.HFX_REGULAR,
                SetupName.HFX_CACHE_AWARE,
                SetupName.HFX_SCHEDULED,
            },
        ),
        ("stream", {SetupName.HFX_CACHE_AWARE}),
    ],
)
def test_a_restricted_run_leaves_the_rest_out(only: str, absent: set[SetupName]) -> None:
    visited = _visited(_settings("--only", only))
    assert {setup for setup, _ in visited} == set(SetupName) - absent
    plain = {PhaseName.SATURATED, PhaseName.SINGLE}
    assert ({phase for _, phase in visited} == plain) is (only != "stream")
    assert plain.isdisjoint({phase for _, phase in visited}) is (only == "stream")


def test_phases_are_what_the_goals_speak_of() -> None:
    settings = _settings("--seconds", "4", "--warmup", "1")
    assert make_phase(PhaseName.SATURATED, settings) == Phase(
        name=PhaseName.SATURATED, num_connections=32, is_stream=False, num_tokens=16, seconds=4.0,
        warmup_s=1.0,
    )  # fmt: skip
    flood = make_phase(PhaseName.FLOOD, settings)
    assert flood.num_connections / settings.token_interval_us * 1_000_000 == 100_000
    assert flood.warmup_s == FLOOD_WARMUP_S
    steady = make_phase(PhaseName.STEADY, settings)
    assert steady.num_connections / settings.token_interval_us * 1_000_000 == 12_800


def test_quick_is_shorter() -> None:
    quick, usual = _settings("--quick"), _settings()
    assert (quick.num_rounds, quick.seconds) < (usual.num_rounds, usual.seconds)
    assert usual.num_rounds == 5
    assert usual.seconds == 4.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--warmup", "-1"],
        ["--base-port", "40000"],
        ["--only", "nothing"],
        ["--router-core", "0", "--load-core", "0"],
        ["--router-core", "7"],
    ],
)
def test_bad_arguments_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.fixture
def place() -> Place:
    return Place(
        base_port=22_000,
        router_core=1,
        load_core=0,
        log_dir=Path("logs"),
        hfx_python="ours",
        env={},
    )


TOOLS = Tools(mock_worker=Path("m"), load_client=Path("l"), sglang_python=Path("theirs"))


@pytest.mark.parametrize(
    ("setup", "python", "module", "workers", "policy"),
    [
        (SetupName.SGLANG_REGULAR, "theirs", "sglang_router", "http://127.0.0.1:22000",
         "round_robin"),
        (SetupName.HFX_REGULAR, "ours", "hfx_router", "http://127.0.0.1:22000", "round_robin"),
        (SetupName.HFX_CACHE_AWARE, "ours", "hfx_router", "http://127.0.0.1:22000", "cache_aware"),
        (SetupName.SGLANG_PD, "theirs", "sglang_router", "http://127.0.0.1:22002", "round_robin"),
        (SetupName.HFX_SCHEDULED, "ours", "hfx_router", "http://127.0.0.1:22000", "hfx"),
        (SetupName.HFX_PD, "ours", "hfx_router", "http://127.0.0.1:22002", "round_robin"),
        (SetupName.HFX_PD_SCHEDULED, "ours", "hfx_router", "http://127.0.0.1:22002", "hfx"),
    ],
)  # fmt: skip
def test_router_commands(
    place: Place, setup: SetupName, python: str, module: str, workers: str, policy: str
) -> None:
    command = router_command(setup, place, TOOLS, port=1, metrics_port=2, log_level="warn")
    assert command[:3] == [python, "-m", f"{module}.launch_router"]
    assert command[command.index("--policy") + 1] == policy
    assert command[command.index("--port") + 1] == "1"
    assert command[command.index("--prometheus-port") + 1] == "2"
    is_pd = "--pd-disaggregation" in command
    assert is_pd is setup.endswith(("PD", "PD hfx"))
    assert command[command.index("--decode" if is_pd else "--worker-urls") + 1] == workers
    if is_pd:
        at = command.index("--prefill")
        assert command[at + 1 : at + 3] == ["http://127.0.0.1:22001", "8998"]


def test_both_routers_get_the_same_options(place: Place) -> None:
    commands = [
        router_command(setup, place, TOOLS, port=1, metrics_port=2, log_level="warn")
        for setup in (SetupName.SGLANG_PD, SetupName.HFX_PD)
    ]
    assert commands[0][3:] == commands[1][3:]


def test_routers_see_this_checkout_first_and_no_proxy() -> None:
    env = router_environment({"PYTHONPATH": "other", "http_proxy": "x", "HOME": "/home"})
    paths = env["PYTHONPATH"].split(":")
    assert paths[-1] == "other"
    assert (Path(paths[1]) / "hfx_router").is_dir()
    assert env["HOME"] == "/home"
    assert "http_proxy" not in env
