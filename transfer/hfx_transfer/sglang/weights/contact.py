"""Asks an SGLang environment what it has, and Mooncake whether peers answer. One JSON line each.

Runs as a file under the environment's interpreter: standard library and Mooncake only. A process
of its own, since Mooncake may hold its caller for a minute when a peer accepts and stays silent.

    python contact.py
    {"sglang": "0.5.23" or null, "mooncake": null or why it cannot be imported, "plugin": true}

    python contact.py HOST:PORT ...
    {"session": "HOST:PORT", "answers": true}
"""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

PLUGIN = "hfx_weights"
_GROUP = "sglang.srt.plugins"


def main(sessions: list[str]) -> None:
    """Print what is found out, as soon as it is."""
    # Any transport would do to shake hands; TCP needs no adapter and no accelerator.
    os.environ |= {"MC_FORCE_TCP": "1", "MC_LOG_LEVEL": "ERROR"}
    if sessions:
        _contact(sessions)
    else:
        _say(sglang=_sglang_version(), mooncake=_mooncake_problem(), plugin=_has_plugin())


def _sglang_version() -> str | None:
    try:
        return version("sglang")
    except PackageNotFoundError:
        return None


def _mooncake_problem() -> str | None:
    # The only test that tells: the module is found where the libraries that it needs are not.
    try:
        import mooncake.engine  # noqa: F401
    except ImportError as exc:
        return str(exc)
    return None


def _has_plugin() -> bool:
    chosen = os.environ.get("SGLANG_PLUGINS")
    if chosen and PLUGIN not in [name.strip() for name in chosen.split(",")]:
        return False
    return any(each.name == PLUGIN for each in entry_points(group=_GROUP))


def _contact(sessions: list[str]) -> None:
    from mooncake.engine import TransferEngine

    engine = TransferEngine()
    host = os.environ.get("SGLANG_HOST_IP") or "127.0.0.1"
    if engine.initialize(host, "P2PHANDSHAKE", "tcp", "") == 0:
        for session in sessions:
            _say(session=session, answers=engine.send_probe(session) == 0)
    # Here, where the engine is still held: to let go of it takes a second, for nothing.
    os._exit(0)


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
