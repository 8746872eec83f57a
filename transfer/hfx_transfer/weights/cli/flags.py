"""Flags that several subcommands have, and how they are read."""

import argparse
from pathlib import Path

from hfx_sgl.errors import ConfigError
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.weights.manifest import ParallelRank
from hfx_transfer.weights.token import TOKEN_VARIABLE


def add_token_flag(group: argparse._ArgumentGroup) -> None:
    """Add --token-file."""
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with the token that seeds ask for (default: the variable {TOKEN_VARIABLE})",
    )


def add_listen_flags(group: argparse._ArgumentGroup, port_flag: str) -> None:
    """Add where a seed listens."""
    group.add_argument("--host", default="127.0.0.1", help="interface to listen on (%(default)s)")
    group.add_argument(
        "--advertise-host", metavar="HOST", help="what receivers connect to (that of --host)"
    )
    group.add_argument(
        port_flag, type=int, metavar="PORT", help="port of the control plane; 0 for any free one"
    )


def backends_of(text: str) -> tuple[Backend, ...]:
    """Read a list such as `shm,socket`.

    Raises:
        ConfigError: one is unknown.
    """
    known = [backend.value for backend in Backend if backend is not Backend.FILE]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"backends: {name} is none of {', '.join(known)}")
    return tuple(Backend(name) for name in dict.fromkeys(names))


def rank_of(text: str | None) -> ParallelRank | None:
    """Read parallel ranks such as `tp=0/2,pp=1/4`; None for no opinion.

    Raises:
        ConfigError: it does not look like that, or a rank is not below its size.
    """
    if text is None:
        return None
    fields: dict[str, int] = {}
    for part in text.split(","):
        kind, _, place = part.strip().partition("=")
        rank, _, size = place.partition("/")
        if kind not in ("tp", "pp", "ep", "dp") or not (rank.isdecimal() and size.isdecimal()):
            raise ConfigError(f"rank: {part} is not like tp=0/2")
        if int(rank) >= int(size):
            raise ConfigError(f"rank: {kind} {rank} must be below {size}")
        fields |= {f"{kind}_rank": int(rank), f"{kind}_size": int(size)}
    return ParallelRank(**fields)
