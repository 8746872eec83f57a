"""Settings of the router: one model behind flags, `HFX_*` variables, the YAML file and the docs."""

from hfx_router.settings.load import load_settings
from hfx_router.settings.model import RouterSettings
from hfx_router.settings.notices import startup_notices, unbacked_in_use
from hfx_router.settings.values import PrefillTarget

__all__ = [
    "PrefillTarget",
    "RouterSettings",
    "load_settings",
    "startup_notices",
    "unbacked_in_use",
]
