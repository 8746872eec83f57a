"""What an SGLang environment says of itself, asked in a process that is ended when it hangs."""

import os
import sys
import time
from pathlib import Path

import pytest
from hfx_transfer.sglang.weights.environment import (
    Environment,
    contact_sessions,
    inspect_environment,
)

from hfx_sgl.errors import ConfigError, TransferError, TransferFault

TIMEOUT_S = 20.0
FACTS = '{"sglang": "0.5.23", "mooncake": null, "plugin": true}'


def interpreter(folder: Path, body: str) -> str:
    """Return a stand-in for the interpreter of an SGLang environment."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\nshift\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_what_an_environment_has(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f"echo '{FACTS}'")
    found = inspect_environment(python, {}, timeout_s=TIMEOUT_S)
    assert found == Environment(sglang_version="0.5.23", has_plugin=True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (f"echo '{FACTS}' | sed 's/\"0.5.23\"/null/'", "has no sglang"),
        (
            f'echo \'{FACTS}\' | sed \'s/"mooncake": null/"mooncake": "libx.so"/\'',
            "cannot import mooncake.engine (libx.so)",
        ),
        ("echo noise; exit 1", "does not say what it has"),
        ("exec sleep 60", "does not say what it has within 0.3 s"),
    ],
)
def test_an_environment_that_would_read_the_disk_is_refused(
    body: str, said: str, tmp_path: Path
) -> None:
    python = interpreter(tmp_path, body)
    limit_s = 0.3 if "sleep" in body else TIMEOUT_S
    with pytest.raises(ConfigError) as caught:
        inspect_environment(python, {}, timeout_s=limit_s)
    (problem,) = caught.value.problems
    assert problem.startswith("sglang_python: ")
    assert said in problem


def test_an_interpreter_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot run /nowhere/python"):
        inspect_environment("/nowhere/python", {}, timeout_s=TIMEOUT_S)


def test_this_interpreter_is_asked_for_real() -> None:
    with pytest.raises(ConfigError, match="has no sglang"):
        inspect_environment(sys.executable, {}, timeout_s=TIMEOUT_S)


CONTACT = """\
for session in "$@"; do
  case $session in
    *:1) echo "{\\"session\\": \\"$session\\", \\"answers\\": true}" ;;
    *:2) echo "{\\"session\\": \\"$session\\", \\"answers\\": false}" ;;
    *) exec sleep 60 ;;
  esac
done
"""


@pytest.mark.parametrize(
    ("sessions", "fault"),
    [
        (["a:1", "b:2"], TransferFault.UNREACHABLE),
        (["a:1", "b:3", "c:1"], TransferFault.FIRST_CONTACT_TIMEOUT),
    ],
)
def test_engines_that_do_not_shake_hands(
    sessions: list[str], fault: TransferFault, tmp_path: Path
) -> None:
    python = interpreter(tmp_path, CONTACT)
    contact_sessions(python, {}, ["a:1", "b:1"], timeout_s=TIMEOUT_S)
    limit_s = 1.0 if "b:3" in sessions else TIMEOUT_S
    started_at_s = time.monotonic()
    with pytest.raises(TransferError, match=sessions[1]) as caught:
        contact_sessions(python, {}, sessions, timeout_s=limit_s)
    assert caught.value.fault is fault
    assert time.monotonic() - started_at_s < limit_s + 3.0


def test_the_environment_of_the_servers_reaches_it(tmp_path: Path) -> None:
    python = interpreter(tmp_path, f"[ \"$MARK\" = here ] && echo '{FACTS}'")
    assert "MARK" not in os.environ
    assert inspect_environment(python, {"MARK": "here"}, timeout_s=TIMEOUT_S).has_plugin
