"""An engine profile: one model on one kind of device, with its measured step times.

Layout of a profile folder: `profile.yaml`, `prefill.csv`, `decode.csv` and, unless mixed steps are
to be estimated, `mixed.csv`. `profiles/README.md` describes the files.
"""

import dataclasses
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.files import read_step_times
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.errors import ConfigError
from hfx_sgl.types import Role
from hfx_sgl.yaml_file import StrictModel, read_yaml

DEFAULT_PROFILE = "qwen3-8b_h100_tp1"
PROFILE_FILE = "profile.yaml"

_Text = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProfile:
    """What is known about one model on one kind of device."""

    name: str
    model: str
    device: str
    num_devices: int
    """Devices that one engine occupies."""
    source: str
    """Where the figures come from."""
    kv_capacity_tokens: int
    kv_bytes_per_token: int
    """Over all devices of the engine."""
    max_context_tokens: int
    step_times: StepTimes
    """One object: what shares the profile shares its count of extrapolated answers."""

    def make_spec(self, role: Role, **settings: object) -> EngineSpec:
        """Return the spec of an engine of this profile; `settings` are fields of EngineSpec.

        Settings win over what the profile says.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        known = {field.name for field in dataclasses.fields(EngineSpec)} - {"role"}
        unknown = sorted(settings.keys() - known)
        if unknown:
            raise ConfigError(*(f"{name}: no such setting of an engine" for name in unknown))
        fields: dict[str, Any] = {
            "kv_capacity_tokens": self.kv_capacity_tokens,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "max_context_tokens": self.max_context_tokens,
            **settings,
        }
        return EngineSpec(role=role, **fields)


class ProfileConfig(StrictModel):
    """The content of `profile.yaml`."""

    model_config = ConfigDict(strict=True)

    model: _Text
    device: _Text
    num_devices: _Count
    source: _Text
    kv_capacity_tokens: _Count
    kv_bytes_per_token: _Count
    max_context_tokens: Annotated[int, Field(ge=2)]
    time_scale: Annotated[float, Field(gt=0)] = 1.0
    """Every time is multiplied by it, to stand for another device; no claim of fidelity."""


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with the package."""
    return tuple(sorted(folder.parent.name for folder in _shipped_folder().glob("*/profile.yaml")))


def load_profile(name_or_path: str | Path) -> EngineProfile:
    """Return a profile by the name of a shipped one, or by the path of its folder.

    A string without a slash that names a shipped profile means that one. Each call reads the files
    anew.

    Raises:
        ConfigError: no such profile, or a file of it is bad; names file, line and field.
    """
    folder = _find_folder(name_or_path)
    config = read_yaml(folder / PROFILE_FILE, ProfileConfig)
    return EngineProfile(
        name=folder.name,
        step_times=read_step_times(folder, config.time_scale),
        **config.model_dump(exclude={"time_scale"}),
    )


def _shipped_folder() -> Path:
    return Path(str(files("hfx_sgl.engine"))) / "profiles"


def _find_folder(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, str) and name_or_path in profile_names():
        return _shipped_folder() / name_or_path
    folder = Path(name_or_path).absolute()
    if (folder / PROFILE_FILE).is_file():
        return folder
    raise ConfigError(
        f"{name_or_path}: no profile of that name ({', '.join(profile_names())})"
        f" and no folder with a {PROFILE_FILE}"
    )
