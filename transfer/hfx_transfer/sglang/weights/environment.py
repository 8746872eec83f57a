"""Runs `contact.py` in the environment that new servers get, and ends it when it takes too long."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfx_sgl.errors import ConfigError, TransferError, TransferFault

_SCRIPT = Path(__file__).with_name("contact.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a new server will find."""

    sglang_version: str
    has_plugin: bool
    """Whether servers pass on what they took from a peer (`hfx_transfer.sglang.plugin`)."""


def inspect_environment(python: str, env: Mapping[str, str], *, timeout_s: float) -> Environment:
    """Return what the SGLang environment of `python` has.

    Args:
        env: set on top of this process's environment, as for the servers.

    Raises:
        ConfigError: it lacks SGLang or Mooncake, or cannot be asked. SGLang without Mooncake
            reads weights from disk and says so only in its log.
    """
    lines, is_late = _run(python, env, (), timeout_s)
    if is_late or not lines:
        late = f" within {timeout_s:g} s" if is_late else ""
        raise ConfigError(f"sglang_python: {python} does not say what it has{late}")
    found = lines[0]
    if found["sglang"] is None:
        raise ConfigError(f"sglang_python: {python} has no sglang")
    if found["mooncake"] is not None:
        raise ConfigError(
            f"sglang_python: {python} cannot import mooncake.engine ({found['mooncake']}), "
            "without which SGLang reads weights from disk"
        )
    return Environment(sglang_version=found["sglang"], has_plugin=found["plugin"])


def contact_sessions(
    python: str, env: Mapping[str, str], sessions: Sequence[str], *, timeout_s: float
) -> None:
    """Shake hands with each Mooncake engine, all within `timeout_s`.

    Raises:
        TransferError: one of them refuses (unreachable) or says nothing (first_contact_timeout).
    """
    lines, is_late = _run(python, env, sessions, timeout_s)
    answers = {line["session"]: line["answers"] for line in lines}
    for session in sessions:
        if answers.get(session):
            continue
        if session not in answers and is_late:
            raise TransferError(
                f"its transfer engine at {session} says nothing within {timeout_s:g} s",
                fault=TransferFault.FIRST_CONTACT_TIMEOUT,
            )
        raise TransferError(
            f"its transfer engine at {session} does not answer", fault=TransferFault.UNREACHABLE
        )


def _run(
    python: str, env: Mapping[str, str], sessions: Sequence[str], timeout_s: float
) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines that it printed, and whether it had to be ended."""
    command = [python, str(_SCRIPT), *sessions]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        return _lines(exc.stdout or b""), True
    except OSError as exc:
        raise ConfigError(f"sglang_python: cannot run {python} ({exc.strerror})") from exc
    return _lines(done.stdout), False


def _lines(output: bytes) -> list[dict[str, Any]]:
    # What was cut off at the end is no line.
    return [json.loads(line) for line in output.split(b"\n")[:-1] if line.startswith(b"{")]
