"""Reads the clairvoyant bounds that another script has computed."""

from pathlib import Path

import msgspec

from hfx_sgl.errors import ConfigError


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What no scheduler can exceed at one load, for one seed or for several together."""

    cluster: str
    load_factor: float
    attainment: float
    """Share (0..1) of all arrivals."""
    num_requests: int = 1
    """How much it weighs beside others of the same load."""


class BoundsFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file: `{"bounds": [{"cluster": "2P+2D", "load_factor": 6.0, "attainment": 0.97}]}`."""

    bounds: list[Bound]
    assumptions: str = ""
    """What the bound takes for granted, in a sentence."""


def read_bounds(path: Path) -> tuple[dict[tuple[str, float], float], str]:
    """Return the bounds by cluster and load, means where there are several, and what they assume.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=BoundsFile)
    except OSError as exc:
        raise ConfigError(f"--bounds: {path}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError(f"--bounds: {path}: {exc}") from exc
    totals: dict[tuple[str, float], tuple[float, int]] = {}
    for bound in content.bounds:
        key = (bound.cluster, bound.load_factor)
        total, weight = totals.get(key, (0.0, 0))
        num = bound.num_requests
        totals[key] = total + num * bound.attainment, weight + num
    return {key: total / weight for key, (total, weight) in totals.items()}, content.assumptions
