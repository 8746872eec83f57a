"""An engine profile: one model on one kind of device, with its measured step times.

Layout of a profile folder: `profile.yaml`, `prefill.csv`, `decode.csv`, `mixed.csv`.
"""

from dataclasses import dataclass
from pathlib import Path

from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.types import Role

DEFAULT_PROFILE = "qwen3-8b_h100_tp1"


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
    max_context_tokens: int
    step_times: StepTimes

    def make_spec(self, role: Role, **settings: object) -> EngineSpec:
        """Return the spec of an engine of this profile; `settings` are fields of EngineSpec.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        raise NotImplementedError


def profile_names() -> tuple[str, ...]:
    """Return the names of the profiles that ship with the package."""
    raise NotImplementedError


def load_profile(name_or_path: str | Path) -> EngineProfile:
    """Return a profile by the name of a shipped one, or by the path of its folder.

    Raises:
        ConfigError: no such profile, or a file of it is bad; names file, line and field.
    """
    raise NotImplementedError
