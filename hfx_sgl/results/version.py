"""Which code made a result."""

import subprocess
from pathlib import Path

from hfx_sgl import __version__

_CHECKOUT = Path(__file__).resolve().parents[2]
_GIT_TIMEOUT_S = 5.0
"""A result without its commit is better than one that waits for a stuck file system."""


def package_version() -> str:
    """Return the version, and in a checkout its commit: `0.1.0+g1a2b3c4`.

    `.dirty` follows when files under version control differ from that commit.
    """
    if not (_CHECKOUT / ".git").exists():
        return __version__
    described = _git("describe", "--always", "--dirty=.dirty", "--exclude=*")
    return f"{__version__}+g{described}" if described else __version__


def _git(*arguments: str) -> str:
    """Return what git prints; nothing when there is no git or it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_CHECKOUT), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
