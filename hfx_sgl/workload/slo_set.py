"""SLO sets: which class is promised what. Shipped ones are in `slo_sets/`, by name."""

import math
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hfx_sgl.errors import ConfigError
from hfx_sgl.slo import Slo
from hfx_sgl.yaml_file import StrictModel, read_yaml

_SHIPPED = Path(__file__).parent / "slo_sets"
DEFAULT_ENTRY = "default"
"""The entry for classes that a set does not name."""

Bound = Annotated[float, Field(gt=0)]


class _SloConfig(StrictModel):
    ttft_s: Bound | None = None
    tpot_s: Bound | None = None
    e2e_s: Bound | None = None

    def build(self) -> Slo:
        return Slo(
            ttft_s=math.inf if self.ttft_s is None else self.ttft_s,
            tpot_s=math.inf if self.tpot_s is None else self.tpot_s,
            e2e_s=math.inf if self.e2e_s is None else self.e2e_s,
        )


class _SloSetConfig(StrictModel):
    source: str = ""
    classes: Annotated[dict[str, _SloConfig], Field(min_length=1)]


class _SloFile(StrictModel):
    source: str = ""
    """Where the figures come from."""
    sets: Annotated[dict[str, _SloSetConfig], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SloSet:
    """What each class is promised."""

    name: str
    slos: dict[str, Slo]

    def of(self, entry: str) -> Slo:
        """Return what an entry promises, or else the default entry.

        Raises:
            ConfigError: neither exists.
        """
        slo = self.slos.get(entry) or self.slos.get(DEFAULT_ENTRY)
        if slo is None:
            raise ConfigError(
                f"slo_set: {self.name} has no entry {entry!r} and no default "
                f"(it has {', '.join(self.slos)})"
            )
        return slo


def slo_set_names() -> tuple[str, ...]:
    """Return the names of the sets that ship with the package."""
    return tuple(sorted(_shipped_sets()))


def load_slo_set(name_or_path: str) -> SloSet:
    """Return a shipped set by name, or that of a file: `PATH`, `PATH#NAME` if it holds several.

    Raises:
        ConfigError: there is no such set, or its file is bad.
    """
    path, _, name = name_or_path.partition("#")
    if path.endswith((".yaml", ".yml")) or "/" in path:
        sets = _sets_of(Path(path))
        if not name and len(sets) == 1:
            (name,) = sets
        if name not in sets:
            raise ConfigError(
                f"slo_set: {path}: has {', '.join(sets)}; choose one as {path}#NAME ({name!r})"
            )
        return sets[name]
    sets = _shipped_sets()
    if name_or_path not in sets:
        close = get_close_matches(name_or_path, sets, n=1)
        hint = f", did you mean {close[0]}?" if close else f" (there are {', '.join(sorted(sets))})"
        raise ConfigError(f"slo_set: there is no {name_or_path!r}{hint}")
    return sets[name_or_path]


def _shipped_sets() -> dict[str, SloSet]:
    found: dict[str, SloSet] = {}
    for path in sorted(_SHIPPED.glob("*.yaml")):
        found |= _sets_of(path)
    return found


def _sets_of(path: Path) -> dict[str, SloSet]:
    return {
        name: SloSet(name=name, slos={key: slo.build() for key, slo in config.classes.items()})
        for name, config in read_yaml(path, _SloFile).sets.items()
    }
