"""Writes a profile folder, and compares two."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from hfx_sgl.engine.profile import PROFILE_FILE, load_profile
from hfx_sgl.engine.step_times.rows import DECODE, MIXED, PREFILL, Row, TableFormat, write_rows

Rows = Mapping[TableFormat, Sequence[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFacts:
    """The fields of `profile.yaml`."""

    model: str
    device: str
    num_devices: int
    source: str
    kv_capacity_tokens: int
    kv_bytes_per_token: int
    max_context_tokens: int


def write_profile(folder: Path, facts: ProfileFacts, rows: Rows) -> None:
    """Write a profile and load it once.

    Raises:
        ConfigError: it does not load; says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(asdict(facts), sort_keys=False, width=1000)
    (folder / PROFILE_FILE).write_text(text, encoding="utf-8")
    for table in (PREFILL, DECODE, MIXED):
        path = folder / table.file_name
        if rows.get(table):
            path.write_text(write_rows(table, rows[table]), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    load_profile(folder)


def differing_files(one: Path, other: Path) -> list[str]:
    """Return the names of the profile files that are not the same in two folders."""
    names = (PROFILE_FILE, PREFILL.file_name, DECODE.file_name, MIXED.file_name)
    return [name for name in names if _content(one / name) != _content(other / name)]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
