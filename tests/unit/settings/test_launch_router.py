import os
import subprocess
import sys
from types import ModuleType

import pytest
from hfx_router.launch_router import main
from hfx_router.settings import RouterSettings
from hfx_router.settings.cli import build_parser

from hfx_sgl import __version__
from hfx_sgl.code_form import code_form
from hfx_sgl.errors import ConfigError


class FakeApp(ModuleType):
    """Stands for `hfx_router.app`: remembers the settings and answers with a status."""

    def __init__(self, status: int = 0, error: Exception | None = None) -> None:
        super().__init__("hfx_router.app")
        self.seen: list[RouterSettings] = []
        self._status = status
        self._error = error

    def run(self, settings: RouterSettings) -> int:
        self.seen.append(settings)
        if self._error is not None:
            raise self._error
        return self._status


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HFX_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("status", [0, 1])
def test_the_status_is_that_of_the_router(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    app = FakeApp(status)
    monkeypatch.setitem(sys.modules, "hfx_router.app", app)
    monkeypatch.setenv("HFX_QUEUE_SIZE", "7")
    assert main(["--port", "31000"]) == status
    assert [(seen.port, seen.queue_size) for seen in app.seen] == [(31000, 7)]


def test_arguments_default_to_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeApp()
    monkeypatch.setitem(sys.modules, "hfx_router.app", app)
    monkeypatch.setattr(sys, "argv", ["hfx-router", "--port", "31001"])
    assert main() == 0
    assert app.seen[0].port == 31001


def test_bad_configuration_is_status_2_with_a_line_per_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = FakeApp()
    monkeypatch.setitem(sys.modules, "hfx_router.app", app)
    assert main(["--port", "x", "--queue-size", "-5", "--log-level", "loud"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(line.partition(":")[0] for line in err.splitlines()) == [
        "log_level",
        "port",
        "queue_size",
    ]
    assert app.seen == []


def test_a_configuration_that_fails_late_is_status_2_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hfx_router.app", FakeApp(error=ConfigError("policy: bad")))
    assert main([]) == 2
    assert capsys.readouterr().err == "policy: bad\n"


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--port"], "port: expected one argument"),
        (["--bogus"], "command line: unknown argument '--bogus'"),
        (["--prot=3"], "command line: unknown argument '--prot=3', did you mean --port?"),
        (["stray"], "command line: unknown argument 'stray'"),
        (["--dp-aware=1"], "dp_aware: ignored explicit argument '1'"),
        (["--retry", "1"], "command line: ambiguous option: --retry could match"),
    ],
)
def test_bad_command_lines(
    argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(problem)


@pytest.mark.parametrize("module", ["hfx_router", "hfx_router.launch_router"])
def test_both_modules_are_commands(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--enable-igw"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "enable_igw: one model for each router; start a router for every model\n"
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"hfx-router {__version__} ({code_form()})\n"


def test_help_names_every_flag_with_default_and_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name in RouterSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    words = " ".join(text.split())
    assert "Port to listen on; 0 takes a free one. (default: 30000)" in words
    assert "[refused: JWT is not supported;" in words
    assert "[no effect: hfx-router takes the place of mini-lb]" in words
    assert "--prefill URL [PORT|none ...]" in words
    assert "--log-level {debug,info,warn,error}" in words


def test_help_groups_are_not_empty() -> None:
    for group in build_parser()._action_groups[2:]:
        assert group._group_actions, group.title
