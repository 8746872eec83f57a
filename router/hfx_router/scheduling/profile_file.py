"""The file in which latency models outlive the process: read, checked, and written as a whole."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency import LatencyModels, LatencySnapshot

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A class takes half a kilobyte; whatever is larger is another file."""


class ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    version: Literal[1]
    classes: dict[str, LatencySnapshot]
    """By class key."""


class DamagedProfileError(Exception):
    """The file is there and is no latency profile."""


def read_profile(path: Path) -> dict[str, LatencySnapshot]:
    """Return what was saved, by class key; nothing when there is no file.

    Raises:
        OSError: it cannot be read.
        DamagedProfileError: what is in it cannot be used; the message says why.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DamagedProfileError(f"it is larger than {MAX_FILE_BYTES} bytes")
        profile = msgspec.json.decode(path.read_bytes(), type=ProfileFile)
        for snapshot in profile.classes.values():
            LatencyModels.from_snapshot(snapshot)
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as exc:
        raise DamagedProfileError(str(exc)) from exc
    return profile.classes


def write_profile(path: Path, classes: Mapping[str, LatencySnapshot]) -> None:
    """Replace the file, so that a reader, or the next process after a crash, finds one whole.

    Raises:
        OSError: it cannot be written; what was there before is there still.
    """
    data = msgspec.json.encode(ProfileFile(version=1, classes=dict(classes)))
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(msgspec.json.format(data, indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it can be looked at and is not overwritten.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.bad")
    path.replace(aside)
    return aside
