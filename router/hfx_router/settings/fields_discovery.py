"""Finding workers in Kubernetes: refused, because a router that finds nobody serves nobody."""

from functools import partial

from hfx_router.settings.field import Arity, Group, SettingsFields, Status, setting
from hfx_router.settings.values import Texts

_discovery = partial(
    setting,
    group=Group.DISCOVERY,
    status=Status.REFUSED,
    advice="service discovery is not supported; name the workers with --worker-urls, or --prefill "
    "and --decode, or add them with POST /workers",
)


class DiscoveryFields(SettingsFields):
    """Label selectors and where to look."""

    service_discovery: bool = _discovery(False, "Find workers in Kubernetes.")
    selector: Texts = _discovery(
        (), "Labels of worker pods.", arity=Arity.SOME, metavar="KEY=VALUE"
    )
    prefill_selector: Texts = _discovery(
        (), "Labels of prefill pods.", arity=Arity.SOME, metavar="KEY=VALUE"
    )
    decode_selector: Texts = _discovery(
        (), "Labels of decode pods.", arity=Arity.SOME, metavar="KEY=VALUE"
    )
    service_discovery_port: int = _discovery(80, "Port of worker pods.", ge=1, le=65535)
    service_discovery_namespace: str | None = _discovery(
        None, "Namespace to look in; unset for all.", metavar="NAME"
    )
