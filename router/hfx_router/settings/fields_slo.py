"""What requests are promised."""

from typing import Annotated

from pydantic import BeforeValidator, InstanceOf

from hfx_router.settings.field import Group, SettingsFields, setting
from hfx_router.settings.slo_block import parse_slo
from hfx_sgl.policy.slo.config import SloConfig

SloBlock = Annotated[InstanceOf[SloConfig] | None, BeforeValidator(parse_slo)]


class PromiseFields(SettingsFields):
    """Classes, rules and the default class, all in one value because they name each other."""

    slo: SloBlock = setting(
        None,
        "Classes of promises, rules that choose one, and the default class: a YAML file, or in the "
        "settings file the block itself.",
        group=Group.SLO,
        metavar="FILE",
        is_secret=True,
    )
